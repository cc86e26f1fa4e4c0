"""Python Plus: CPython with the probe compiled in. Brings its source, patches and builds it.

release   what is built: the pinned source, the series of patches, the variants
places    where interpreters, build trees and archives lie
source    bringing, checking and unpacking the source
patches   applying a series, exactly or not at all
toolchain what a build needs, and which of it a failed step missed
build     the steps of a build, each of them resumable
check     running an interpreter to see what it has
"""
