"""Tests of PeerCacheStore without SGLang and without torch.

versions.py      what each release of SGLang offers, as a table
fake_sglang.py   a package `sglang` of one such release, for the time of a test
tensors.py       tensor and index doubles over numpy memory
content.py       bytes that tell whose they are
pools.py         host pool doubles, one for every kind of pool
controller.py    attaches a store, calls it as SGLang does, and is strict about the answers
traffic.py       the four threads that call at the same time
store_peer.py    a store in a process of its own
peers.py         talks to such a process
"""
