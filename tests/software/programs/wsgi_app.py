"""For mod_wsgi: a little work and a little waiting a request."""

import time


def application(environ, start_response):
    total = sum(i * i for i in range(3_000))
    time.sleep(0.001)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%d\n" % total]
