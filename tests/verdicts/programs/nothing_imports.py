"""A script that imports much of the standard library."""

# /// verdict
# kind = "nothing"
# ///

import argparse  # noqa: F401
import asyncio  # noqa: F401
import concurrent.futures  # noqa: F401
import decimal  # noqa: F401
import email.message  # noqa: F401
import http.server  # noqa: F401
import json  # noqa: F401
import logging.config  # noqa: F401
import multiprocessing.pool  # noqa: F401
import sqlite3  # noqa: F401
import unittest.mock  # noqa: F401
import xml.dom.minidom  # noqa: F401
