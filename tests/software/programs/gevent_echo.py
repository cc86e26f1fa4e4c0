"""gevent, monkey-patched: greenlets that look like threads, and its pool of real threads."""

from gevent import monkey

monkey.patch_all()

import hashlib  # noqa: E402
import threading  # noqa: E402

import gevent  # noqa: E402
from gevent.server import StreamServer  # noqa: E402
from gevent.socket import create_connection  # noqa: E402


def serve(connection, _address):
    for line in connection.makefile("rb"):
        connection.sendall(line)


server = StreamServer(("127.0.0.1", 0), serve)
server.start()


def visit(number):
    with create_connection(("127.0.0.1", server.server_port)) as connection:
        file = connection.makefile("rb")
        for turn in range(50):
            connection.sendall(b"%d %d\n" % (number, turn))
            assert file.readline() == b"%d %d\n" % (number, turn)
    return 50


visits = [gevent.spawn(visit, number) for number in range(20)]
gevent.joinall(visits, raise_error=True)
green = threading.Thread(target=visit, args=(99,), name="green")
green.start()
green.join()
pool = gevent.get_hub().threadpool
digests = [pool.spawn(lambda n=n: hashlib.sha256(bytes(n * 1000)).hexdigest()) for n in range(50)]
print(sum(v.value for v in visits), sorted(d.get() for d in digests)[:2])
