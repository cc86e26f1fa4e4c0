"""Two modules of one name, each with a `handle` on the same line: two lines, not one."""

# /// verdict
# kind = "convoy"
# thread = "ping"
# site = "*/shop/*/views.py:[78] handle"
# ///

import threading
import time

from shop.orders import views as orders
from shop.users import views as users


def ping(end):
    while time.monotonic() < end:
        time.sleep(0.001)


end = time.monotonic() + 1.3
for work, name in ((orders.handle, "orders"), (users.handle, "users"), (ping, "ping")):
    threading.Thread(target=work, args=(end,), name=name).start()
