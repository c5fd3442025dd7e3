"""What the SGLang adapter (peercache.store) is made of.

    types      SGLang's types where SGLang is there, stand-ins where not
    config     the user's extra configuration -> settings of the node
    claim      a chosen node id, unique on the host
    instance   who this instance is: model, ranks, sizes of the groups
    pools      host pools: how many pieces a page has, and where they lie
    probe      what the pages of a pool look like
    flat       pools whose pages can only be copied
    buffers    memory of host pools, registered in the background
    namespace  the digest under which the pages of a pool are stored
    transfers  pages between host pools and the node
    generic    values of the generic calls
    values     tensors and buffers of the generic calls
    traffic    calls of the node: deadlines, retries
    queries    questions about pages, and their answers
    prefix     prefixes that are legal over several pools
    guard      neutral answers, breaker, rate-limited log
    numbers    what get_stats hands over
    metrics    our own metrics, with model and ranks

Nothing here imports torch; pools and tensors are used by the names they offer.
"""
