//! Sorted set commands as tables; replies are Redis's.

use super::super::testing::{Client, check, check_resp3};

const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";
const NOT_INTEGER: &str = "-ERR value is not an integer or out of range";
const NOT_FLOAT: &str = "-ERR value is not a valid float";
const NOT_POSITIVE: &str = "-ERR value is out of range, must be positive";
const SYNTAX: &str = "-ERR syntax error";

#[test]
fn members_and_scores() {
    check(&[
        ("ZADD z 1 a 2 b 3 c", ":3"),
        ("ZADD z 1 a 5 b 4 d", ":1"),
        ("ZADD z CH 1 a 6 b 9 e", ":2"),
        ("ZSCORE z b", "$1 6"),
        ("ZSCORE z x", "$-1"),
        ("ZSCORE missing x", "$-1"),
        ("ZMSCORE z a x e", "*3 $1 1 $-1 $1 9"),
        ("ZMSCORE missing a", "*1 $-1"),
        ("ZCARD z", ":5"),
        ("ZCARD missing", ":0"),
        ("ZRANGE z 0 -1 WITHSCORES", "*10 $1 a $1 1 $1 c $1 3 $1 d $1 4 $1 b $1 6 $1 e $1 9"),
        ("ZRANK z b", ":3"),
        ("ZREVRANK z b", ":1"),
        ("ZRANK z x", "$-1"),
        ("ZRANK missing x", "$-1"),
        ("ZREM z a x b", ":2"),
        ("ZREM missing a", ":0"),
        ("ZREM z c d e", ":3"),
        ("ZCARD z", ":0"),
        ("ZADD z 1.5 f -inf g +inf h", ":3"),
        ("ZSCORE z f", "$3 1.5"),
        ("ZRANGE z 0 -1 WITHSCORES", "*6 $1 g $4 -inf $1 f $3 1.5 $1 h $3 inf"),
        ("ZADD z x a", NOT_FLOAT),
        ("ZADD z 1 a nan b", NOT_FLOAT),
        ("ZSCORE z a", "$-1"),
        ("ZADD z 1", "-ERR wrong number of arguments for 'zadd' command"),
        ("ZADD z 1 a 2", SYNTAX),
        ("ZADD z NX XX", SYNTAX),
        ("ZADD missing x a", NOT_FLOAT),
        ("ZCARD missing", ":0"),
    ]);
    check_resp3(&[
        ("ZADD z 1.5 a 2 b", ":2"),
        ("ZSCORE z a", ",1.5"),
        ("ZSCORE z x", "_"),
        ("ZMSCORE z a x", "*2 ,1.5 _"),
        ("ZINCRBY z 1 a", ",2.5"),
        ("ZADD z INCR 1 a", ",3.5"),
        ("ZADD z NX INCR 1 a", "_"),
        ("ZRANGE z 0 -1 WITHSCORES", "*2 *2 $1 b ,2 *2 $1 a ,3.5"),
        ("ZRANGE z 0 -1", "*2 $1 b $1 a"),
        ("ZPOPMIN z", "*2 $1 b ,2"),
        ("ZPOPMIN z 1", "*1 *2 $1 a ,3.5"),
        ("ZPOPMIN z 1", "*0"),
        ("ZADD z 1 a", ":1"),
        ("ZMPOP 1 z MIN", "*2 $1 z *1 *2 $1 a ,1"),
        ("ZMPOP 1 z MIN", "_"),
        ("ZADD z 1 a 2 b", ":2"),
        ("ZUNION 1 z WITHSCORES", "*2 *2 $1 a ,1 *2 $1 b ,2"),
        ("ZUNION 1 z", "*2 $1 a $1 b"),
        ("ZREM z b", ":1"),
        ("ZRANDMEMBER z 2 WITHSCORES", "*1 *2 $1 a ,1"),
        ("ZSCAN z 0", "*2 $1 0 *2 $1 a $1 1"),
    ]);
}

#[test]
fn conditions_of_zadd() {
    check(&[
        ("ZADD z 5 a", ":1"),
        ("ZADD z NX 9 a 1 b", ":1"),
        ("ZSCORE z a", "$1 5"),
        ("ZADD z XX 6 a 1 c", ":0"),
        ("ZSCORE z a", "$1 6"),
        ("ZSCORE z c", "$-1"),
        ("ZADD z XX CH 7 a", ":1"),
        ("ZADD z GT CH 3 a 4 d", ":1"),
        ("ZSCORE z a", "$1 7"),
        ("ZADD z GT CH 8 a", ":1"),
        ("ZADD z LT CH 9 a 2 a", ":1"),
        ("ZSCORE z a", "$1 2"),
        ("ZADD z XX GT CH 3 new", ":0"),
        ("ZADD z INCR 3 a", "$1 5"),
        ("ZADD z NX INCR 3 a", "$-1"),
        ("ZADD z XX INCR 3 new", "$-1"),
        ("ZADD z GT INCR -3 a", "$-1"),
        ("ZADD z LT INCR -3 a", "$1 2"),
        ("ZADD missing XX 1 a", ":0"),
        ("ZADD missing XX INCR 1 a", "$-1"),
        ("ZCARD missing", ":0"),
        ("ZADD z NX XX 1 a", "-ERR XX and NX options at the same time are not compatible"),
        ("ZADD z NX GT 1 a", "-ERR GT, LT, and/or NX options at the same time are not compatible"),
        ("ZADD z LT NX 1 a", "-ERR GT, LT, and/or NX options at the same time are not compatible"),
        ("ZADD z GT LT 1 a", "-ERR GT, LT, and/or NX options at the same time are not compatible"),
        ("ZADD z INCR 1 a 2 b", "-ERR INCR option supports a single increment-element pair"),
        ("ZINCRBY z 0.5 a", "$3 2.5"),
        ("ZINCRBY new 3 m", "$1 3"),
        ("ZINCRBY z x a", NOT_FLOAT),
        ("ZINCRBY z +inf i", "$3 inf"),
        ("ZINCRBY z -inf i", "-ERR resulting score is not a number (NaN)"),
        ("ZSCORE z i", "$3 inf"),
    ]);
    // Redis 7.2's option, and its shortest text of a double.
    check(&[
        ("ZADD z 0.1 a 2 b", ":2"),
        ("ZSCORE z a", "$3 0.1"),
        ("ZRANK z b WITHSCORE", "*2 :1 $1 2"),
        ("ZREVRANK z a withscore", "*2 :1 $3 0.1"),
        ("ZRANK z x WITHSCORE", "*-1"),
        ("ZRANK z b SCORE", SYNTAX),
        ("ZRANK z b WITHSCORE x", "-ERR wrong number of arguments for 'zrank' command"),
    ]);
}

#[test]
fn ranges_by_index() {
    check(&[
        ("ZADD z 1 a 2 b 3 c", ":3"),
        ("ZRANGE z 0 1", "*2 $1 a $1 b"),
        ("ZRANGE z -2 -1", "*2 $1 b $1 c"),
        ("ZRANGE z 0 0 REV", "*1 $1 c"),
        ("ZREVRANGE z 0 1 WITHSCORES", "*4 $1 c $1 3 $1 b $1 2"),
        ("ZREVRANGE z 0 1 REV", SYNTAX),
        ("ZREVRANGE z 0 1 BYSCORE", SYNTAX),
        ("ZRANGE z 2 1", "*0"),
        ("ZRANGE z 5 9", "*0"),
        ("ZRANGE z x 1", NOT_INTEGER),
        (
            "ZRANGE z 0 1 LIMIT 0 1",
            "-ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
        ),
        ("ZRANGE z 0 1 NOPE", SYNTAX),
        ("ZRANGE missing 0 1", "*0"),
        ("ZREMRANGEBYRANK z 0 0", ":1"),
        ("ZREMRANGEBYRANK z -1 -1", ":1"),
        ("ZREMRANGEBYRANK missing 0 1", ":0"),
        ("ZREMRANGEBYRANK z x 1", NOT_INTEGER),
        ("ZRANGE z 0 -1", "*1 $1 b"),
        ("ZREMRANGEBYRANK z 0 -1", ":1"),
        ("ZCARD z", ":0"),
    ]);
}

#[test]
fn ranges_by_score() {
    check(&[
        ("ZADD z 1 a 2 b 2 bb 3 c 4.5 d", ":5"),
        ("ZRANGEBYSCORE z 2 3", "*3 $1 b $2 bb $1 c"),
        ("ZRANGEBYSCORE z (2 3", "*1 $1 c"),
        ("ZRANGEBYSCORE z (1 (3 WITHSCORES", "*4 $1 b $1 2 $2 bb $1 2"),
        ("ZRANGEBYSCORE z -inf +inf LIMIT 1 2", "*2 $1 b $2 bb"),
        ("ZRANGEBYSCORE z -inf +inf LIMIT 1 -1", "*4 $1 b $2 bb $1 c $1 d"),
        ("ZRANGEBYSCORE z -inf +inf LIMIT -1 2", "*0"),
        ("ZRANGEBYSCORE z -inf +inf LIMIT 9 2", "*0"),
        ("ZRANGEBYSCORE z 3 2", "*0"),
        ("ZREVRANGEBYSCORE z 3 2", "*3 $1 c $2 bb $1 b"),
        ("ZREVRANGEBYSCORE z +inf (2 LIMIT 1 1", "*1 $1 c"),
        ("ZREVRANGEBYSCORE z 2 3", "*0"),
        ("ZRANGE z 2 3 BYSCORE", "*3 $1 b $2 bb $1 c"),
        ("ZRANGE z 3 2 BYSCORE REV LIMIT 0 2", "*2 $1 c $2 bb"),
        ("ZRANGE z 1 2 BYSCORE BYLEX", SYNTAX),
        ("ZRANGEBYSCORE z x 2", "-ERR min or max is not a float"),
        ("ZRANGEBYSCORE z nan 2", "-ERR min or max is not a float"),
        ("ZRANGEBYSCORE z ( 2", "*3 $1 a $1 b $2 bb"),
        ("ZRANGEBYSCORE z 1 2 LIMIT 0", SYNTAX),
        ("ZRANGEBYSCORE z 1 2 LIMIT x 1", NOT_INTEGER),
        ("ZRANGEBYSCORE missing 1 2", "*0"),
        ("ZCOUNT z 2 3", ":3"),
        ("ZCOUNT z (2 +inf", ":2"),
        ("ZCOUNT z 9 1", ":0"),
        ("ZCOUNT missing 1 2", ":0"),
        ("ZCOUNT z x 2", "-ERR min or max is not a float"),
        ("ZREMRANGEBYSCORE z (1 2", ":2"),
        ("ZREMRANGEBYSCORE z 9 1", ":0"),
        ("ZREMRANGEBYSCORE z x 1", "-ERR min or max is not a float"),
        ("ZREMRANGEBYSCORE z -inf inf", ":3"),
        ("ZCARD z", ":0"),
    ]);
}

#[test]
fn ranges_by_name() {
    check(&[
        ("ZADD z 0 a 0 b 0 c 0 d 0 10", ":5"),
        ("ZRANGEBYLEX z - +", "*5 $2 10 $1 a $1 b $1 c $1 d"),
        ("ZRANGEBYLEX z [b (d", "*2 $1 b $1 c"),
        ("ZRANGEBYLEX z (b +", "*2 $1 c $1 d"),
        ("ZRANGEBYLEX z - [b LIMIT 1 1", "*1 $1 a"),
        ("ZRANGEBYLEX z + -", "*0"),
        ("ZREVRANGEBYLEX z + [b", "*3 $1 d $1 c $1 b"),
        ("ZREVRANGEBYLEX z [c -  LIMIT 0 2", "*2 $1 c $1 b"),
        ("ZRANGE z [a [b BYLEX", "*2 $1 a $1 b"),
        ("ZRANGE z [b [a BYLEX REV", "*2 $1 b $1 a"),
        (
            "ZRANGE z [a [b BYLEX WITHSCORES",
            "-ERR syntax error, WITHSCORES not supported in combination with BYLEX",
        ),
        ("ZRANGEBYLEX z a b", "-ERR min or max not valid string range item"),
        ("ZRANGEBYLEX z -x +", "-ERR min or max not valid string range item"),
        ("ZLEXCOUNT z - +", ":5"),
        ("ZLEXCOUNT z [b [c", ":2"),
        ("ZLEXCOUNT z b c", "-ERR min or max not valid string range item"),
        ("ZLEXCOUNT missing - +", ":0"),
        ("ZREMRANGEBYLEX z [b (d", ":2"),
        ("ZREMRANGEBYLEX z b d", "-ERR min or max not valid string range item"),
        ("ZREMRANGEBYLEX z - +", ":3"),
        ("ZCARD z", ":0"),
    ]);
}

#[test]
fn stored_ranges() {
    check(&[
        ("ZADD z 1 a 2 b 3 c", ":3"),
        ("ZRANGESTORE d z 0 1", ":2"),
        ("ZRANGE d 0 -1 WITHSCORES", "*4 $1 a $1 1 $1 b $1 2"),
        ("ZRANGESTORE d z 3 2 BYSCORE REV LIMIT 0 1", ":1"),
        ("ZRANGE d 0 -1", "*1 $1 c"),
        ("ZRANGESTORE z z 1 -1", ":2"),
        ("ZRANGE z 0 -1", "*2 $1 b $1 c"),
        ("ZRANGESTORE d z 5 6", ":0"),
        ("ZCARD d", ":0"),
        ("ZRANGESTORE d z 0 1 WITHSCORES", SYNTAX),
        ("ZRANGESTORE d missing 0 1", ":0"),
        ("SADD s x", ":1"),
        ("ZRANGESTORE s z 0 0", ":1"),
        ("ZCARD s", ":1"),
        ("RPUSH l x", ":1"),
        ("ZRANGESTORE d l 0 0", WRONG_TYPE),
    ]);
}

#[test]
fn pops_and_random_members() {
    check(&[
        ("ZADD z 1 a 2 b 3 c 4 d", ":4"),
        ("ZPOPMIN z", "*2 $1 a $1 1"),
        ("ZPOPMAX z", "*2 $1 d $1 4"),
        ("ZPOPMAX z 0", "*0"),
        ("ZPOPMAX z 5", "*4 $1 c $1 3 $1 b $1 2"),
        ("ZPOPMIN z", "*0"),
        ("ZPOPMIN z 2", "*0"),
        ("ZPOPMIN z -1", NOT_POSITIVE),
        ("ZPOPMIN z x", NOT_POSITIVE),
        ("ZPOPMIN z 1 2", SYNTAX),
        ("ZCARD z", ":0"),
        ("ZADD z 1 a 2 b 3 c", ":3"),
        ("ZMPOP 2 missing z MIN", "*2 $1 z *1 *2 $1 a $1 1"),
        ("ZMPOP 1 z max COUNT 5", "*2 $1 z *2 *2 $1 c $1 3 *2 $1 b $1 2"),
        ("ZMPOP 1 z MAX", "*-1"),
        ("ZMPOP 0 z MAX", "-ERR numkeys should be greater than 0"),
        ("ZMPOP 1 z MAX COUNT 0", "-ERR count should be greater than 0"),
        ("ZMPOP 1 z UP", SYNTAX),
        ("ZMPOP 2 z MAX", SYNTAX),
        ("ZADD z 1 a", ":1"),
        ("ZRANDMEMBER z", "$1 a"),
        ("ZRANDMEMBER z 5", "*1 $1 a"),
        ("ZRANDMEMBER z 5 WITHSCORES", "*2 $1 a $1 1"),
        ("ZRANDMEMBER z -2", "*2 $1 a $1 a"),
        ("ZRANDMEMBER z -2 WITHSCORES", "*4 $1 a $1 1 $1 a $1 1"),
        ("ZRANDMEMBER z 0", "*0"),
        ("ZRANDMEMBER z x", NOT_INTEGER),
        ("ZRANDMEMBER z 1 SCORES", SYNTAX),
        ("ZRANDMEMBER missing", "$-1"),
        ("ZRANDMEMBER missing 2", "*0"),
        ("ZSCAN z 0", "*2 $1 0 *2 $1 a $1 1"),
        ("ZSCAN z 0 MATCH b*", "*2 $1 0 *0"),
        ("ZSCAN missing 0", "*2 $1 0 *0"),
        ("ZSCAN z x", "-ERR invalid cursor"),
    ]);
}

#[test]
fn unions_intersections_and_differences() {
    check(&[
        ("ZADD a 1 x 2 y 3 z", ":3"),
        ("ZADD b 10 y 20 z 30 w", ":3"),
        ("SADD s z w v", ":3"),
        ("ZUNION 2 a b WITHSCORES", "*8 $1 x $1 1 $1 y $2 12 $1 z $2 23 $1 w $2 30"),
        ("ZUNION 2 a b", "*4 $1 x $1 y $1 z $1 w"),
        ("ZUNION 2 a b WEIGHTS 2 0.5 WITHSCORES", "*8 $1 x $1 2 $1 y $1 9 $1 w $2 15 $1 z $2 16"),
        ("ZUNION 2 a b AGGREGATE MAX WITHSCORES", "*8 $1 x $1 1 $1 y $2 10 $1 z $2 20 $1 w $2 30"),
        (
            "ZUNION 2 a s AGGREGATE min WITHSCORES",
            "*10 $1 v $1 1 $1 w $1 1 $1 x $1 1 $1 z $1 1 $1 y $1 2",
        ),
        ("ZINTER 2 a b WITHSCORES", "*4 $1 y $2 12 $1 z $2 23"),
        ("ZINTER 3 a b s WITHSCORES", "*2 $1 z $2 24"),
        ("ZINTER 2 a missing", "*0"),
        ("ZDIFF 2 a b WITHSCORES", "*2 $1 x $1 1"),
        ("ZDIFF 2 a s", "*2 $1 x $1 y"),
        ("ZDIFF 2 missing a", "*0"),
        ("ZINTERCARD 2 a b", ":2"),
        ("ZINTERCARD 2 a b LIMIT 1", ":1"),
        ("ZINTERCARD 2 a missing", ":0"),
        ("ZINTERCARD 2 a b LIMIT -1", "-ERR LIMIT can't be negative"),
        ("ZINTERCARD 2 a b LIMIT", SYNTAX),
        ("ZUNIONSTORE d 2 a b", ":4"),
        ("ZRANGE d 0 -1", "*4 $1 x $1 y $1 z $1 w"),
        ("ZINTERSTORE d 2 a b WEIGHTS 1 2", ":2"),
        ("ZRANGE d 0 -1 WITHSCORES", "*4 $1 y $2 22 $1 z $2 43"),
        ("ZDIFFSTORE d 2 a b", ":1"),
        ("ZDIFFSTORE d 2 a a", ":0"),
        ("ZCARD d", ":0"),
        ("ZUNIONSTORE s 1 s", ":3"),
        ("ZRANGE s 0 -1 WITHSCORES", "*6 $1 v $1 1 $1 w $1 1 $1 z $1 1"),
        ("ZUNION 0 a", "-ERR at least 1 input key is needed for 'zunion' command"),
        ("ZUNIONSTORE d 0 a", "-ERR at least 1 input key is needed for 'zunionstore' command"),
        ("ZUNION x a", NOT_INTEGER),
        ("ZUNION 3 a b", SYNTAX),
        ("ZUNION 2 a b WEIGHTS 1", SYNTAX),
        ("ZUNION 2 a b WEIGHTS 1 x", "-ERR weight value is not a float"),
        ("ZUNION 2 a b AGGREGATE AVG", SYNTAX),
        ("ZDIFF 2 a b WEIGHTS 1 2", SYNTAX),
        ("ZUNIONSTORE d 1 a WITHSCORES", SYNTAX),
        ("ZADD inf inf i", ":1"),
        ("ZADD neg -inf i", ":1"),
        ("ZUNION 2 inf neg WITHSCORES", "*2 $1 i $1 0"),
        ("ZUNION 1 inf WEIGHTS 0 WITHSCORES", "*2 $1 i $1 0"),
        ("ZADD eight 8 i", ":1"),
        ("ZADD inf 1 j", ":1"),
        ("ZINTER 2 eight inf WEIGHTS -1 0 AGGREGATE MAX WITHSCORES", "*2 $1 i $2 -8"),
    ]);
}

#[test]
fn big_sorted_sets_answer_like_small_ones() {
    let mut client = Client::resp2();
    for number in 0..1000 {
        client.run(&format!("ZADD z {} m{number:03}", number / 2));
    }
    client.check(&[
        ("ZCARD z", ":1000"),
        ("ZRANK z m500", ":500"),
        ("ZREVRANK z m500", ":499"),
        ("ZRANGEBYSCORE z 100 (101", "*2 $4 m200 $4 m201"),
        ("ZREVRANGEBYSCORE z 100 100 WITHSCORES", "*4 $4 m201 $3 100 $4 m200 $3 100"),
        ("ZRANGE z 998 -1", "*2 $4 m998 $4 m999"),
        ("ZCOUNT z 10 19", ":20"),
        ("ZADD z 9999 m000", ":0"),
        ("ZRANK z m000", ":999"),
        ("ZREMRANGEBYSCORE z 0 399", ":799"),
        ("ZREMRANGEBYRANK z 0 98", ":99"),
        ("ZCARD z", ":102"),
        ("ZPOPMIN z 2", "*4 $4 m899 $3 449 $4 m900 $3 450"),
        ("ZPOPMAX z", "*2 $4 m000 $4 9999"),
        ("ZCARD z", ":99"),
        ("ZREMRANGEBYRANK z 0 -1", ":99"),
        ("ZCARD z", ":0"),
    ]);
}

#[test]
fn other_types_are_refused_and_left_alone() {
    let mut client = Client::resp2();
    client.check(&[("RPUSH l x", ":1"), ("ZADD z 1 a", ":1")]);
    for line in [
        "ZADD l 1 a",
        "ZADD l XX 1 a",
        "ZINCRBY l 1 a",
        "ZREM l a",
        "ZSCORE l a",
        "ZMSCORE l a",
        "ZCARD l",
        "ZCOUNT l 1 2",
        "ZLEXCOUNT l - +",
        "ZRANK l a",
        "ZREVRANK l a",
        "ZRANGE l 0 1",
        "ZRANGEBYSCORE l 0 1",
        "ZRANGEBYLEX l - +",
        "ZREMRANGEBYRANK l 0 1",
        "ZPOPMIN l",
        "ZMPOP 1 l MIN",
        "ZRANDMEMBER l",
        "ZRANDMEMBER l 2",
        "ZSCAN l 0",
        "ZUNION 2 z l",
        "ZINTERCARD 2 z l",
        "ZDIFFSTORE d 2 z l",
    ] {
        assert_eq!(client.run(line), WRONG_TYPE, "{line}");
    }
    client.check(&[("LLEN l", ":1"), ("ZCARD z", ":1")]);
}
