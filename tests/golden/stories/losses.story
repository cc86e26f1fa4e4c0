# Two processes, gaps, a killed process, a GIL whose beginning nobody saw, odd names.
0       main        process.start
0       main        thread.start
100     a\tb        gil.release  arg=1          # held it since before the recording
150     main        gil.acquire  waited
200     main        gil.lost     arg=7
210     a\tb        gil.request  arg=2
230     a\tb        gil.acquire  waited arg=1
260     main        gil.wait     io arg=4095
300     a\tb        gil.lost     arg=18446744073709551615
300     a\tb        gil.wait     cpu arg=1
20      child       process.start process=1
25      child       gil.yield    gil=1 arg=0
40      child       gil.acquire  gil=1
70      child       process.end  arg=1          # killed
320     main        gil.lost     arg=0          # recording stopped: how many is not known
320     a\tb        thread.lost  arg=0
350     main        process.end
