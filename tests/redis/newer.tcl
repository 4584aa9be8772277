# What Redis 7.4 answers differently from 7.0 all over the suite; read after the suite's own tests/support/test.tcl.
# Encodings that newer versions call by another name: the rows `encoding` of tests/explained.txt.
set newer_encodings {}
set rows [open [file join [file dirname [info script]] .. explained.txt]]
foreach row [split [read $rows] "\n"] {
    if {[regexp {^newer \| encoding \| (\S+) \| (\S+) (\S+) \| \S} $row -> type old new]} {
        lappend newer_encodings [list $type $old $new]
    }
}
close $rows

proc assert_encoding {enc key} {
    if {$::ignoreencoding} {
        return
    }
    set val [r object encoding $key]
    if {[list [r type $key] $enc $val] in $::newer_encodings} {
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
