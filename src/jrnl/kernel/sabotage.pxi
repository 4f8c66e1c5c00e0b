# Rules of file stores that tests take away, to see that it is noticed.
#
# The build for that (JRNL_SABOTAGE=1) has one variable for it, a bit for each rule, which
# tests/crash/removed.py sets. Every other build has none: that a rule holds is a constant there.

cdef extern from *:
    """
    #ifdef JRNL_SABOTAGE
    uint64_t jrnl_rules_off;
    #else
    #define jrnl_rules_off ((uint64_t)0)
    #endif
    """
    const uint64_t jrnl_rules_off

cdef enum:
    RULE_IMAGE_SUM = 0
    RULE_GROUP_SUM = 1
    RULE_HEADERS_SUM = 2
    RULE_SEED_KEY = 3
    RULE_SEED_EPOCH = 4
    RULE_SEED_NUMBER = 5
    RULE_SEED_POSITION = 6
    RULE_RECORD_FIRST = 7
    RULE_TAIL_FIRST = 8
    RULE_EVICT_SYNCED = 9
    RULE_COMMIT_FIRST = 10
    RULE_POISON = 11
    RULE_UNDO_INTENT = 12
    RULE_UNDO_SYNC = 13
    RULE_RAM_BOUND = 14
    RULE_LOG_BOUND = 15
    RULE_FORK = 16
    RULE_INDEX_SUM = 17
    RULE_COPY_SUM = 18
    RULE_SUMS_SUM = 19
    RULE_ENTRY_SUM = 20
    RULE_FINISH_COPIES = 21
    RULE_FOLD_SYNC = 22
    RULE_BATCH = 23
    RULE_INTENT_DURABLE = 24
    RULE_PRESERVED_FIRST = 25
    RULE_PRESERVED_SYNC = 26
    RULE_PRESERVED_SUM = 27
    RULE_PRESERVED_REWIND = 28
    RULE_INDEX_TOTAL = 29
    RULE_CUT_SLOT = 30
    RULE_ENTRY_FITS = 31
    RULE_NAMED_SEQ = 32
    RULE_TRIED_SEQ = 33


cdef inline bint in_force(uint64_t rule) noexcept nogil:
    return jrnl_rules_off >> rule & 1 == 0
