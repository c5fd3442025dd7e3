/*
 * docs.h - docstrings of NodeBase. The first line is the signature that
 * inspect.signature() reads.
 */
#ifndef PC_PY_DOCS_H
#define PC_PY_DOCS_H

/* clang-format off: texts. */

#define PC_DOC_COMMON                                                          \
    "namespace: str or bytes, at most 255 bytes; keys of different "           \
    "namespaces\n"                                                             \
    "never meet. timeout: seconds, more than 0; None takes the setting\n"      \
    "op_timeout. chain: the keys are the pages of one prefix, first page\n"    \
    "first, so that eviction takes the tail first.\n\n"                        \
    "Raises TypeError or ValueError for an argument that cannot be used\n"     \
    "(nothing was done then), ClosedError after close, PeerCacheError when\n"  \
    "the batch as a whole was refused. Releases the GIL; any thread."

#define PC_DOC_PUT                                                             \
    "put($self, keys, values, *, namespace=None, timeout=None, chain=False)\n" \
    "--\n\n"                                                                   \
    "Store values under keys; a list with one bool a key: stored.\n\n"         \
    "keys: a sequence of str (taken as UTF-8) or bytes, 1 to 1024 bytes "      \
    "each.\n"                                                                  \
    "values: as many. A value is an object with the buffer protocol (bytes,\n" \
    "bytearray, memoryview, a C-contiguous numpy array of any shape and\n"     \
    "dtype), a tensor (data_ptr(), nbytes, is_contiguous()), a tuple\n"        \
    "(pointer, length in bytes), or a list or tuple of these: pieces that "    \
    "are\n"                                                                    \
    "joined in order. Only the bytes are stored, not shape or dtype. A "       \
    "value\n"                                                                  \
    "has 1 byte or more. It must not change until put returns.\n\n"            \
    "A key names one immutable value: what enough holders have already is "    \
    "True\n"                                                                   \
    "and not stored again.\n\n" PC_DOC_COMMON

#define PC_DOC_GET_INTO                                                        \
    "get_into($self, keys, buffers, *, namespace=None, timeout=None, "         \
    "chain=False)\n--\n\n"                                                     \
    "Read values into buffers; a list with one bool a key: delivered.\n\n"     \
    "keys: as of put. buffers: as many, each like a value of put, but\n"       \
    "writable, and exactly as long as the stored value: otherwise the "        \
    "answer\n"                                                                 \
    "is False and the buffer untouched. After any other False its bytes are\n" \
    "undefined. Buffers in memory that was registered (register) are "         \
    "written\n"                                                                \
    "without a copy where there is RDMA. Do not use a buffer until get_into\n" \
    "returns.\n\n" PC_DOC_COMMON

#define PC_DOC_GET                                                             \
    "get($self, key, *, namespace=None, timeout=None)\n--\n\n"                 \
    "The value of one key as bytes, or None for a miss.\n\n"                   \
    "Asks for the length first: two round trips. get_into is faster.\n"        \
    "Arguments and exceptions as of get_into."

#define PC_DOC_EXISTS                                                          \
    "exists($self, keys, *, namespace=None, timeout=None, "                    \
    "chain=False)\n--\n\n"                                                     \
    "A list with one bool a key: somebody has the value "                      \
    "now.\n\n" PC_DOC_COMMON

#define PC_DOC_MATCH                                                           \
    "match($self, keys, *, namespace=None, timeout=None, chain=False)\n--\n\n" \
    "How many keys exist, counted from the first up to one that does "         \
    "not.\n\n" PC_DOC_COMMON

#define PC_DOC_REMOVE                                                          \
    "remove($self, keys, *, namespace=None, timeout=None, "                    \
    "chain=False)\n--\n\n"                                                     \
    "Remove values; a list with one bool a key: it was there and every "       \
    "holder\n"                                                                 \
    "that could be reached gave it up.\n\n" PC_DOC_COMMON

#define PC_DOC_CLEAR                                                           \
    "clear($self, *, timeout=None)\n--\n\n"                                    \
    "Drop every value that this node holds, of all namespaces; how many.\n\n"  \
    "Copies that other nodes hold stay, and so does what a put stores\n"       \
    "meanwhile. When it returns the directory knows. timeout: seconds, more\n" \
    "than 0; None takes the setting op_timeout.\n\n"                           \
    "Raises TimedOutError (a TimeoutError) when some are left, or an owner\n"  \
    "of the directory did not answer in time: what was dropped stays "         \
    "dropped.\n"                                                               \
    "Also TypeError, ValueError, ClosedError, PeerCacheError. Releases the\n"  \
    "GIL; any thread."

#define PC_DOC_DRAIN                                                           \
    "drain($self, node_id=None, *, timeout=60)\n--\n\n"                        \
    "Hand over what a node keeps of the directory, before it ends; is it\n"    \
    "done?\n\n"                                                                \
    "node_id: a member of the cluster; None is this node. It goes on with\n"   \
    "all calls, but no other node counts on its copies from then on, and\n"    \
    "there is no way back but a restart. When it is done the node may end,\n"  \
    "and every key that another node holds is found as before. Takes the\n"    \
    "setting settle (10 s) at least.\n\n"                                      \
    "timeout: seconds; None waits as long as it takes, 0 just begins. False\n" \
    "says that it goes on: call again to look.\n\n"                            \
    "Raises PeerCacheError with the status NOT_FOUND when there is no such\n"  \
    "member, NOT_READY, UNREACHABLE or PEER_FAILED. Releases the GIL; any\n"   \
    "thread."

#define PC_DOC_RUN_PAGES                                                       \
    "run_pages($self, verb, groups, *, timeout=None, chain=False)\n--\n\n"     \
    "One verb on groups of pages; a list of lists with one status a key.\n\n"  \
    "verb: 'put', 'get', 'exists' or 'remove'. groups: a sequence of tuples\n" \
    "(namespace, keys, memory), each as of put. memory is None for exists "    \
    "and\n"                                                                    \
    "remove. For put and get it is (PageTable, slots), one slot a key, or\n"   \
    "(sizes, pointers): the sizes in bytes of a page's pieces and the\n"       \
    "addresses of the pieces, page after page; or a size for each address.\n"  \
    "This memory stays the caller's, and is mapped until run_pages returns;\n" \
    "after that nothing of it is read or written. Memory that was\n"           \
    "registered (register) is found by its addresses.\n\n"                     \
    "All groups run at the same time, each with the whole timeout. A status\n" \
    "is a number of peercache.Status: 0 is OK. A get delivers a value of\n"    \
    "exactly the length of the page; another one leaves the page untouched,\n" \
    "after any other failure its bytes are undefined.\n\n"                     \
    "timeout, chain: as of put. Raises TypeError or ValueError for an\n"       \
    "argument that cannot be used (nothing was done then), ClosedError "       \
    "after\n"                                                                  \
    "close; what fails later is told by statuses. Releases the GIL; any "      \
    "thread."

#define PC_DOC_REGISTER                                                        \
    "register($self, buffer, *, kind='host')\n--\n\n"                          \
    "Register memory that get_into will write to; a Registration.\n\n"         \
    "buffer: one writable buffer, tensor or tuple (pointer, length in "        \
    "bytes).\n"                                                                \
    "kind: 'host', or 'device' for memory of a GPU. get_into uses the\n"       \
    "registration for every value whose pieces all lie in it. The node "       \
    "keeps\n"                                                                  \
    "the object alive and registered until Registration.close() or close();\n" \
    "memory given by pointer must stay mapped as long.\n\n"                    \
    "Raises TypeError, ValueError, ClosedError, or PeerCacheError when the\n"  \
    "memory cannot be registered. Any thread."

#define PC_DOC_WAIT_READY                                                      \
    "wait_ready($self, timeout=None)\n--\n\n"                                  \
    "Wait until the node is a member of its cluster; True.\n\n"                \
    "timeout: seconds; None waits for ever. Raises TimedOutError (a\n"         \
    "TimeoutError), ClosedError, PeerCacheError. Releases the GIL."

#define PC_DOC_METRICS_TEXT                                                    \
    "metrics_text($self)\n--\n\n"                                              \
    "Every metric in the text format of Prometheus, as str."

#define PC_DOC_INFO_TEXT                                                       \
    "info_text($self)\n--\n\n"                                                 \
    "Identity, addresses, members, pool and settings in effect, as JSON text."

#define PC_DOC_EXPLAIN_TEXT                                                    \
    "explain_text($self, key, *, namespace=None)\n--\n\n"                      \
    "What a get of the key would do and why, as JSON text."

#define PC_DOC_CLOSE                                                           \
    "close($self)\n--\n\n"                                                     \
    "Leave the cluster and give everything back.\n\n"                          \
    "Waits for calls that are running in other threads; new ones raise\n"      \
    "ClosedError. Twice is fine. In a child of a fork it only forgets the\n"   \
    "parent's node. Releases the GIL."

/* clang-format on */

#endif /* PC_PY_DOCS_H */
