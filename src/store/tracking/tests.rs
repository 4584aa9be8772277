//! What clients that cache are told.

use crate::store::crowd::{Crowd, check};

/// Client `a` speaks RESP3 and tracks.
fn tracking(options: &str) -> Crowd {
    let mut crowd = Crowd::new(3);
    crowd.run(0, "hello 3");
    assert_eq!(crowd.run(0, &format!("client tracking on {options}")), "+OK");
    crowd
}

#[test]
fn keys_that_were_read_are_told_once() {
    let mut crowd = tracking("");
    crowd.check(&[
        ("a get k", "_", ""),
        ("b set other v", "+OK", ""),
        ("b set k v", "+OK", "a: >2 $10 invalidate *1 $1 k"),
        ("b set k v", "+OK", ""),
        ("a mget k l", "*2 $1 v _", ""),
        ("b mset k 1 l 2", "+OK", "a: >2 $10 invalidate *1 $1 k / a: >2 $10 invalidate *1 $1 l"),
        ("a get k", "$1 1", ""),
        ("a set k 2", "+OK", "a: >2 $10 invalidate *1 $1 k"),
        ("a get k", "$1 2", ""),
        ("b flushall", "+OK", "a: >2 $10 invalidate _"),
        ("b set k v", "+OK", ""),
        ("a get k", "$1 v", ""),
        ("a client tracking off", "+OK", ""),
        ("b set k v", "+OK", ""),
    ]);
    assert!(crowd.store.instance.attention.is_empty());
}

#[test]
fn expired_and_renamed_keys_are_told() {
    let mut crowd = tracking("");
    crowd.check(&[
        ("b psetex k 10 v", "+OK", ""),
        ("a get k", "$1 v", ""),
        ("+11", "", ""),
        ("b get k", "$-1", "a: >2 $10 invalidate *1 $1 k"),
        ("b set x 1", "+OK", ""),
        ("a mget x y", "*2 $1 1 _", ""),
        ("b rename x y", "+OK", "a: >2 $10 invalidate *1 $1 x / a: >2 $10 invalidate *1 $1 y"),
    ]);
}

#[test]
fn own_writes_need_not_be_told() {
    let mut crowd = tracking("noloop");
    crowd.check(&[
        ("a get k", "_", ""),
        ("a set k 1", "+OK", ""),
        ("b set k 2", "+OK", ""),
        ("a get k", "$1 2", ""),
        ("b set k 3", "+OK", "a: >2 $10 invalidate *1 $1 k"),
    ]);
}

#[test]
fn broadcasts_go_by_prefixes() {
    let mut crowd = tracking("bcast prefix x prefix yy");
    crowd.check(&[
        ("b set x1 v", "+OK", "a: >2 $10 invalidate *1 $2 x1"),
        ("b set x1 v", "+OK", "a: >2 $10 invalidate *1 $2 x1"),
        ("b set y v", "+OK", ""),
        ("a client tracking on bcast prefix xa", "-ERR Prefix 'xa' overlaps with an existing prefix 'x'. Prefixes for a single client must not overlap.", ""),
        ("a client trackinginfo", "%3 $5 flags ~2 $2 on $5 bcast $8 redirect :0 $8 prefixes *2 $1 x $2 yy", ""),
    ]);
}

#[test]
fn caching_is_chosen_for_the_next_command() {
    let mut crowd = tracking("optin");
    crowd.check(&[
        ("a get k", "_", ""),
        ("b set k 1", "+OK", ""),
        ("a client caching yes", "+OK", ""),
        ("a get k", "$1 1", ""),
        ("a get l", "_", ""),
        ("b mset k 2 l 2", "+OK", "a: >2 $10 invalidate *1 $1 k"),
        ("a client caching yes", "+OK", ""),
        ("a multi", "+OK", ""),
        ("a get k", "+QUEUED", ""),
        ("a get l", "+QUEUED", ""),
        ("a exec", "*2 $1 2 $1 2", ""),
        ("b mset k 3 l 3", "+OK", "a: >2 $10 invalidate *1 $1 k / a: >2 $10 invalidate *1 $1 l"),
        (
            "a client caching no",
            "-ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.",
            "",
        ),
    ]);
    let mut crowd = tracking("optout");
    crowd.check(&[
        ("a client caching no", "+OK", ""),
        ("a get k", "_", ""),
        ("a get l", "_", ""),
        ("b mset k 2 l 2", "+OK", "a: >2 $10 invalidate *1 $1 l"),
    ]);
}

#[test]
fn another_connection_is_told_instead() {
    check(&[
        ("b subscribe __redis__:invalidate", "*3 $9 subscribe $20 __redis__:invalidate :1", ""),
        ("a client tracking on redirect 2", "+OK", ""),
        ("a client getredir", ":2", ""),
        ("a get k", "$-1", ""),
        ("c set k v", "+OK", "b: *3 $7 message $20 __redis__:invalidate *1 $1 k"),
        ("a get k", "$1 v", ""),
        ("c flushall", "+OK", "b: *3 $7 message $20 __redis__:invalidate *-1"),
        (
            "a client tracking on redirect 99",
            "-ERR The client ID you want redirect to does not exist",
            "",
        ),
    ]);
}

#[test]
fn options_are_checked() {
    check(&[
        ("a client getredir", ":-1", ""),
        ("a client trackinginfo", "*6 $5 flags *1 $3 off $8 redirect :-1 $8 prefixes *0", ""),
        ("a client tracking maybe", "-ERR syntax error", ""),
        (
            "a client tracking on prefix x",
            "-ERR PREFIX option requires BCAST mode to be enabled",
            "",
        ),
        (
            "a client tracking on bcast optin",
            "-ERR OPTIN and OPTOUT are not compatible with BCAST",
            "",
        ),
        (
            "a client tracking on optin optout",
            "-ERR You can't specify both OPTIN mode and OPTOUT mode",
            "",
        ),
        (
            "a client caching yes",
            "-ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
            "",
        ),
        ("a client tracking on optin", "+OK", ""),
        (
            "a client tracking on optout",
            "-ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it with a different mode.",
            "",
        ),
        ("a reset", "+RESET", ""),
        ("a client getredir", ":-1", ""),
    ]);
}

#[test]
fn the_table_of_keys_is_bounded() {
    let mut crowd = tracking("");
    crowd.check(&[
        ("b config set tracking-table-max-keys 2", "+OK", ""),
        ("a get k1", "_", ""),
        ("a get k2", "_", ""),
        ("a get k3", "_", "a: >2 $10 invalidate *1 $2 k1"),
    ]);
    assert_eq!(crowd.store.instance.tracking.key_count(), 2);
}
