"""A short script without a thread: it counts words for a few tenths of a second and is done."""

# /// verdict
# kind = "nothing"
# ///

import collections
import time

TEXT = "the quick brown fox jumps over the lazy dog and the dog does not mind " * 200


def count(text):
    return collections.Counter(word.strip(".,") for word in text.split())


def main():
    end = time.monotonic() + 0.3
    words = collections.Counter()
    while time.monotonic() < end:
        words.update(count(TEXT))
    print(words.most_common(1)[0][0])


if __name__ == "__main__":
    main()
