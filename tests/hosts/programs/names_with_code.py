"""Prints whenever code of its own runs that nobody but a prober would run."""

import sys
import threading


def told(what):
    print("user code ran:", what)


class Property(threading.Thread):
    @property
    def _name(self):
        told("property")
        return "x"

    @_name.setter
    def _name(self, value):
        pass


class Descriptor:
    def __get__(self, instance, owner):
        if instance is not None:
            told("descriptor")
        return "x"

    def __set__(self, instance, value):
        instance.__dict__["_name"] = value


class Described(threading.Thread):
    _name = Descriptor()


class Dictionary(threading.Thread):
    @property
    def __dict__(self):
        told("dictionary")
        return {}


class Name(str):
    def __str__(self):
        told("str")
        return "x"

    def __eq__(self, other):
        told("eq")
        return False

    def __hash__(self):
        return hash("_name")

    def encode(self, *args):
        told("encode")
        return b""


class Key:
    def __eq__(self, other):
        told("key")
        return False

    def __hash__(self):
        return hash("_name")


class Attribute(threading.Thread):
    quiet = True

    def __getattribute__(self, name):
        if name == "_name" and not type(self).quiet:
            told("getattribute")
        return super().__getattribute__(name)


class Meta(type):
    def __getattribute__(cls, name):
        if name in ("__dict__", "__mro__"):
            told("metaclass")
        return super().__getattribute__(name)


class OfMeta(threading.Thread, metaclass=Meta):
    pass


def run(thread):
    thread.start()
    thread.join()


for kind in Property, Described, OfMeta:
    for _ in range(3):
        run(kind(target=int))
for _ in range(3):
    run(Dictionary(target=int))
    thread = threading.Thread(target=int)
    thread.__dict__["_name"] = Name("sub")
    run(thread)
    if sys.version_info < (3, 14):  # from then on a thread without a name does not start
        thread = threading.Thread(target=int)
        name = thread.__dict__.pop("_name")
        thread.__dict__[Key()] = "evil"
        dict.__setitem__(thread.__dict__, 5, "number")
        run(thread)
print("done")
