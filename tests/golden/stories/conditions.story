# Everything that can be seen of locks, conditions and atomic sections; the woken are known.
0    main     process.start
0    main     thread.start
0    worker   thread.start
0    other    thread.start
5    main     gil.acquire
# A condition: main notifies, two have waited; one of them gave up before.
10   worker   cond.wait native object=0x7f0000001000
12   other    cond.wait native object=0x7f0000001000
20   other    cond.wake native object=0x7f0000001000 timed-out
21   other    gil.wait io arg=1
30   main     cond.notify native object=0x7f0000001000 woken=1
36   worker   cond.wake native object=0x7f0000001000
37   worker   gil.wait io arg=2
40   other    gil.request arg=2
44   main     gil.yield arg=2
44   main     gil.wakeup to=other
45   main     gil.wait cpu arg=3
52   other    gil.acquire waited arg=2
# A lock that is made of a condition: the waits nest.
60   other    gil.release arg=2
61   other    lock.wait thread-lock object=0x7f0000002000
62   other    cond.wait unknown object=0x7f0000003000
65   worker   gil.acquire waited arg=1
70   worker   lock.release thread-lock object=0x7f0000002000
71   worker   cond.notify unknown object=0x7f0000003000 woken=1
75   other    cond.wake unknown object=0x7f0000003000
76   other    lock.acquire thread-lock object=0x7f0000002000
# An atomic section that holds back a yield, nests, and blocks inside.
80   worker   atomic.enter depth=1
85   worker   atomic.enter depth=2
86   worker   atomic.deferred depth=2
90   worker   atomic.exit depth=2
95   worker   gil.release arg=1
96   worker   gil.wakeup
99   main     gil.acquire waited
105  main     gil.release
110  worker   gil.acquire
120  worker   atomic.exit depth=1
# A wait on the GIL's own condition lies inside the wait for the GIL.
130  other    gil.wait io arg=1
131  other    cond.wait gil object=0x7f0000004000
135  worker   cond.notify gil object=0x7f0000004000 woken=1
136  worker   gil.release arg=1
140  other    cond.wake gil object=0x7f0000004000
141  other    gil.acquire waited
# What is open when a thread, or its process, ends; what nobody saw begin; what is lost.
150  worker   lock.wait pymutex object=0x7f0000005000
151  worker   thread.lost arg=7
152  worker   lock.acquire pymutex object=0x7f0000005000
153  worker   atomic.exit depth=4
154  worker   atomic.enter depth=4
160  worker   thread.end
170  other    gil.release
171  other    atomic.enter depth=1
172  other    lock.wait atomic object=0x7f0000006000
175  late     cond.wake python object=0x7f0000007000 timed-out
180  main     process.end
