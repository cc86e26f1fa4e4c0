"""A whole Django site in one file: `python django_site.py runserver PORT`."""

import os
import sys
import threading
import time

from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import HttpResponse
from django.urls import path

settings.configure(
    DEBUG=True, ROOT_URLCONF=__name__, SECRET_KEY="only for this test", ALLOWED_HOSTS=["*"]
)


def page(request):
    del request
    now = time.monotonic_ns()
    return HttpResponse(f"stamp {os.getpid()} {threading.get_native_id()} {now}\n")


urlpatterns = [path("", page)]

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
