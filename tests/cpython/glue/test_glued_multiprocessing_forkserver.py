"""CPython's multiprocessing tests with `forkserver`, for installations that lack this module."""

from test._test_multiprocessing import install_tests_in_module_dict

install_tests_in_module_dict(globals(), "forkserver")

if __name__ == "__main__":
    import unittest

    unittest.main()
