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

# The suite of 7.2 and later has --force-resp3: every client begins with HELLO 3.
if {[info exists ::env(FORCE_RESP3)] && [info commands redis_resp2] eq ""} {
    rename redis redis_resp2
    proc redis {args} {
        set client [redis_resp2 {*}$args]
        if {[lindex $args 5] ni {"" 0}} {
            return $client
        }
        $client hello 3
        if {[lindex $args 2] ni {"" 0}} {
            $client read
        }
        return $client
    }
}
