# What Redis 7.4 answers differently from 7.0 all over the suite; read after the suite's own tests/support/test.tcl.
#
# 7.2 and later pack small lists whole ("listpack", 7.0 said "quicklist") and small sets of strings ("listpack", 7.0 said
# "hashtable").
proc assert_encoding {enc key} {
    if {$::ignoreencoding} {
        return
    }
    set val [r object encoding $key]
    if {$val eq "listpack" && ($enc eq "quicklist" || ($enc eq "hashtable" && [r type $key] eq "set"))} {
        return
    }
    assert_match $enc $val
}
