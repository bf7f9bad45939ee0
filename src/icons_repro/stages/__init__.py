"""One function for each stage: what it reads, what it writes, and how it is named.

Each returns a `Step`; nothing runs until the cache is asked for it. Heavy packages are imported
inside the builds, so that planning a run takes no time.
"""
