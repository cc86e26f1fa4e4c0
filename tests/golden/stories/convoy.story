# An IO thread beside a thread that computes, on one GIL.
0          MainThread process.start
0          MainThread thread.start
1_000      MainThread gil.acquire
2_000_000  MainThread gil.release
2_010_000  spin       thread.start
2_012_000  spin       gil.acquire
2_500_000  echo       thread.start
2_510_000  echo       gil.wait     io  arg=1
7_510_000  echo       gil.request  arg=1
7_512_000  spin       gil.yield    arg=1
7_520_000  echo       gil.acquire  waited
7_521_000  spin       gil.wait     cpu arg=1
7_560_000  echo       gil.release  arg=1
7_570_000  spin       gil.acquire  waited
9_000_000  echo       gil.wait     io  arg=1
9_100_000  spin       gil.release  arg=1
9_100_500  spin       thread.end
9_108_000  echo       gil.acquire  waited
9_120_000  echo       thread.end                # still holding it
9_130_000  MainThread gil.acquire
9_200_000  MainThread process.end
