//! Tests of the format: payloads that redis-server 7.0.15 made, layouts of older ones, every kind of value there and
//! back, and damage in all forms.

use super::*;
use crate::store::Hasher;
use crate::store::element::Element;
use crate::store::hash::Hash;
use crate::store::list::{End, List};
use crate::store::random::Random;
use crate::store::set::Set;
use crate::store::sorted_set::SortedSet;
use crate::store::thresholds::{self, Thresholds};

const SMALL: Thresholds = Thresholds {
    list_bytes: 64,
    set_integers: 8,
    set_entries: 8,
    hash_entries: 8,
    sorted_set_entries: 8,
    ..thresholds::REDIS
};

fn builder() -> Builder<'static> {
    Builder { hasher: Hasher::seeded(1), thresholds: &thresholds::REDIS }
}

fn small() -> Builder<'static> {
    Builder { thresholds: &SMALL, ..builder() }
}

/// All that a value holds as text: a list in its order, the others sorted.
fn shown(value: ValueRef<'_>) -> String {
    let text = |element: Element<'_>| String::from_utf8_lossy(&element.to_vec()).into_owned();
    let sorted = |mut parts: Vec<String>| {
        parts.sort();
        parts.join(" ")
    };
    match value {
        ValueRef::List(list) => list.iter().map(text).collect::<Vec<_>>().join(" "),
        ValueRef::Set(set) => sorted(set.iter().map(text).collect()),
        ValueRef::Hash(hash) => {
            sorted(hash.iter().map(|(f, v)| format!("{}={}", text(f), text(v))).collect())
        }
        ValueRef::SortedSet(set) => {
            let mut parts = Vec::new();
            set.for_each(|member, score| parts.push(format!("{}:{score}", text(member))));
            parts.join(" ")
        }
        string => String::from_utf8_lossy(&string.text().expect("a string")).into_owned(),
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

/// What redis-server 7.0.15 answers to DUMP, and what is in it.
fn payloads_of_redis() -> Vec<(&'static str, String)> {
    let long = |letter: &str, count| letter.repeat(count);
    vec![
        ("000568656c6c6f0a006372df766534200a", "hello".into()),
        ("00000a005d9b5c400f7fa2da", String::new()),
        ("00c0f40a004474ced75aa7ef82", "-12".into()),
        ("00c1b80b0a00a113c6f3de2b8403", "3000".into()),
        ("00c26079feff0a00a1ca8470cc216d9d", "-100000".into()),
        ("000b31323334353637383930310a00304e52d727176510", "12345678901".into()),
        ("00c30a40c802616261e0ba010161620a0024a6e84170c0c68c", long("ab", 100)),
        (
            "120102c32240621a62000000060081610282626203dff902c12c02f270110104e04678e03c000148ff0a00\
             a9443c597aabe15f",
            format!("a bb -7 300 70000 {}", long("x", 70)),
        ),
        (
            "1204020b0b000000020000010101ff020b0b000000020002010301ff020b0b000000020004010501ff02\
             090900000001000601ff0a00faaf9ea1b828a09d",
            "0 1 2 3 4 5 6".into(),
        ),
        ("0b140400000003000000feffffff01000000701101000a0030527df8cc311f3b", "-2 1 70000".into()),
        (
            "0b1808000000020000000100000000000000ffe30b54020000000a00a43b5e34aba729ae",
            "1 9999999999".into(),
        ),
        ("0203c001016101620a00cfda4c60572a4c33", "1 a b".into()),
        (
            "10c31d2b152b00000006008166028176028167020c018168029478e00a000115ff0a005e9a87318296fe53",
            format!("f=v g=12 h={}", long("x", 20)),
        ),
        (
            "0402016ec0050166c3094050017676e043000176760a0044757780776e6c03",
            format!("f={} n=5", long("v", 80)),
        ),
        (
            "11c331391f390000000800816302842d696e6605816102010181620283322e35048164029702312e30e005\
             000731652b33303018ff0a00b1d584616b3f9d5b",
            format!("c:-inf a:1 b:2.5 d:{}", 1e300),
        ),
        (
            "05030163000000000000f07f01620000000000000440c3094046016161e03900016161000000000000f03f\
             0a00ff4ca12fd12a2858",
            format!("{}:1 b:2.5 c:inf", long("a", 70)),
        ),
    ]
}

#[test]
fn payloads_of_redis_are_read() {
    for (hex, expected) in payloads_of_redis() {
        let value =
            restore(&bytes(hex), &builder()).unwrap_or_else(|error| panic!("{error:?}: {hex}"));
        assert_eq!(shown(value.view()), expected);
        let again = restore(&dump(value.view()), &builder()).expect("our own payload");
        assert_eq!(shown(again.view()), expected);
    }
}

#[test]
fn layouts_of_older_versions_are_read() {
    let ziplist = "16 16000000 13000000 0400 00 01 66 03 01 76 03 fe 9c 03 f3 ff";
    for (kind, body, expected) in [
        (kind::LIST, "02 01 61 c0 05", "a 5"),
        (kind::LIST_ZIPLIST, ziplist, "f v -100 2"),
        (kind::HASH_ZIPLIST, ziplist, "-100=2 f=v"),
        (kind::LIST_ZIPLISTS, &format!("02 {ziplist} {ziplist}"), "f v -100 2 f v -100 2"),
        (
            kind::SORTED_SET_ZIPLIST,
            "18 18000000 12000000 0400 00 01 61 03 f2 02 01 62 03 03312e35 ff",
            "a:1 b:1.5",
        ),
        (kind::HASH_ZIPMAP, "0d 03 01 61 01 01 31 ff 01 62 01 00 32 ff", "broken"),
        (kind::HASH_ZIPMAP, "0d 02 01 61 01 01 31 00 01 62 01 00 32 ff", "a=1 b=2"),
        (kind::SORTED_SET_TEXT, "03 01 61 03312e35 01 62 fe 01 63 ff", "c:-inf a:1.5 b:inf"),
        (kind::SET_LISTPACK, "0c 0c000000 0200 8161 02 05 01 ff", "5 a"),
        (kind::LIST_LISTPACKS, "02 01 03616263 02 09 09000000 0100 06 01 ff", "abc 6"),
    ] {
        let body = [vec![kind], bytes(body)].concat();
        let read = read_value(&mut Input::new(&body), &builder());
        let shown = read.map_or_else(|_| "broken".to_owned(), |value| shown(value.view()));
        assert_eq!(shown, expected, "type {kind}");
    }
}

/// Values of every type, in every form they have.
fn values(random: &mut Random) -> Vec<Value> {
    let count = 1 + random.below(20);
    let mut text = || match random.below(4) {
        0 => (random.bits() as i64 >> random.below(64)).to_string().into_bytes(),
        1 => vec![b'a' + random.below(3) as u8; random.below(80)],
        _ => (0..random.below(40)).map(|_| random.below(256) as u8).collect(),
    };
    let (hasher, thresholds) = (Hasher::seeded(1), &SMALL);
    let (mut list, mut set, mut integers) = (List::new(), Set::new(), Set::new());
    let (mut hash, mut sorted_set) = (Hash::new(), SortedSet::new());
    for number in 0..count {
        let (one, other) = (text(), text());
        list.expect(one.len(), thresholds);
        list.push(End::Back, &one, thresholds);
        set.insert(&one, hasher, thresholds);
        integers.insert((number * 1000 * number).to_string().as_bytes(), hasher, thresholds);
        hash.set(&one, &other, hasher, thresholds);
        let score = number as f64 / 3.0 - 2.0;
        sorted_set.insert(
            &one,
            if number % 2 == 0 { score } else { score.trunc() },
            hasher,
            thresholds,
        );
    }
    vec![
        Value::String(text()),
        Value::Integer(-77),
        Value::List(Box::new(list)),
        Value::Set(Box::new(set)),
        Value::Set(Box::new(integers)),
        Value::Hash(Box::new(hash)),
        Value::SortedSet(Box::new(sorted_set)),
    ]
}

#[test]
fn every_value_comes_back() {
    let mut random = Random::new(11);
    for round in 0..300 {
        for value in values(&mut random) {
            let payload = dump(value.view());
            let back =
                restore(&payload, &small()).unwrap_or_else(|error| panic!("{round}: {error:?}"));
            assert_eq!(shown(back.view()), shown(value.view()));
        }
    }
}

#[test]
fn a_payload_that_was_changed_is_refused_by_its_sum() {
    let payload = dump(ValueRef::String(b"hello"));
    for at in 0..payload.len() {
        let mut bent = payload.clone();
        bent[at] ^= 1;
        assert_eq!(restore(&bent, &builder()).err(), Some(Damage::Footer), "byte {at}");
        assert_eq!(restore(&payload[..at], &builder()).err(), Some(Damage::Footer), "cut at {at}");
    }
}

#[test]
fn what_contradicts_itself_is_refused() {
    for (body, reason) in [
        ("02 00", "an empty set"),
        ("02 02 01 61 01 61", "a member twice"),
        ("04 02 01 61 01 31 01 61 01 32", "a field twice"),
        ("05 01 01 61 000000000000f87f", "a score that is NaN"),
        ("02 81 ffffffffffffffff 01 61", "more members than bytes"),
        ("00 81 ffffffffffffffff", "a string longer than all"),
        ("00 c3 02 81 0000000100000000 00 61", "an unpacked length of gigabytes"),
        ("0b 0c 02000000 02000000 0200 0100", "integers out of order"),
        ("0b 08 03000000 00000000", "integers of three bytes"),
        ("10 0a 0a000000 0100 8161 02 ff", "a field without its value"),
        ("14 0c 0d000000 0200 8161 02 05 01 ff", "a listpack of another length"),
        ("14 0c 0c000000 0300 8161 02 05 01 ff", "a listpack of another count"),
        ("14 0c 0c000000 0200 8161 03 05 01 ff", "an element of another length"),
        ("12 01 03 01 61", "a node of no form"),
        ("06 00", "a module's value"),
        ("63", "no type"),
    ] {
        let read = read_value(&mut Input::new(&bytes(body)), &builder());
        assert!(read.is_err(), "{reason}: {read:?}");
    }
}

#[test]
fn deadlines_of_members_come_back() {
    let (hasher, thresholds) = (Hasher::seeded(1), &SMALL);
    for count in [3, 30] {
        let (mut hash, mut set, mut sorted_set) = (Hash::new(), Set::new(), SortedSet::new());
        for number in 0..count {
            let member = number.to_string().into_bytes();
            hash.set(&member, b"v", hasher, thresholds);
            set.insert(&member, hasher, thresholds);
            sorted_set.insert(&member, number as f64, hasher, thresholds);
        }
        hash.set_deadline(b"1", Some(5000));
        hash.set_deadline(b"2", Some(4000));
        set.set_deadline(b"2", Some(1 << 40), hasher, thresholds);
        sorted_set.set_deadline(b"0", Some(7));
        let back = |value: ValueRef<'_>| restore(&dump(value), &small()).expect("our own");
        let Value::Hash(hash) = back(ValueRef::Hash(&hash)) else { panic!("a hash") };
        let deadline = |field: &[u8]| hash.deadline(field).flatten();
        assert_eq!(
            (deadline(b"0"), deadline(b"1"), deadline(b"2")),
            (None, Some(5000), Some(4000))
        );
        let Value::Set(set) = back(ValueRef::Set(&set)) else { panic!("a set") };
        assert_eq!(
            (set.len(), set.deadline(b"2"), set.deadline(b"1")),
            (count, Some(Some(1 << 40)), Some(None))
        );
        let Value::SortedSet(set) = back(ValueRef::SortedSet(&sorted_set)) else {
            panic!("sorted")
        };
        assert_eq!((set.len(), set.deadline(b"0"), set.earliest_ms()), (count, Some(Some(7)), 7));
    }
}

#[test]
fn layouts_of_redis_7_4_with_deadlines_are_read() {
    for (body, deadlines) in [
        ("18 1027000000000000 02 00 01 61 01 31 02 01 62 01 32", [None, Some(10_001)]),
        ("16 02 00 01 61 01 31 4f11 01 62 01 32", [None, Some(3857)]),
        (
            "19 1027000000000000 19 19000000 0600 8161 02 8131 02 00 01 8162 02 8132 02 f11127 03 ff",
            [None, Some(10_001)],
        ),
        (
            "17 19 19000000 0600 8161 02 8131 02 00 01 8162 02 8132 02 f11127 03 ff",
            [None, Some(10_001)],
        ),
    ] {
        let value = read_value(&mut Input::new(&bytes(body)), &builder()).expect(body);
        let Value::Hash(hash) = value else { panic!("a hash: {body}") };
        let found = [&b"a"[..], b"b"].map(|field| hash.deadline(field).flatten());
        assert_eq!(found, deadlines, "{body}");
    }
    for body in [
        "18 0000000000000100 01 01 01 61 01 31",
        "18 1027000000000000 01 81 ffffffffffffffff 01 61 01 31",
        "c8 02 01 01 61 01 01 62 1027000000000000",
        "c8 02 01 01 61 01 01 61 ffffffffffffffff",
        "c8 c8 02 01 01 61 00",
    ] {
        assert!(read_value(&mut Input::new(&bytes(body)), &builder()).is_err(), "{body}");
    }
}
