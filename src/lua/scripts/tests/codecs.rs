//! cjson, cmsgpack and struct, with the answers of redis-server 7.0.15.

use super::check;

/// An error with its place.
macro_rules! bad {
    ($text:literal $(,)?) => {
        concat!("-ERR user_script:1: ", $text)
    };
}

const CJSON: &[(&str, &str)] = &[
    (
        "return cjson.encode({1,2,{a=1},'x\\n\"/',cjson.null,1.5,true,1e20,2^53})",
        "$62 [1,2,{\"a\":1},\"x\\n\\\"\\/\",null,1.5,true,1e+20,9.007199254741e+15]",
    ),
    ("return cjson.encode({})", "$2 {}"),
    ("return cjson.encode({[1]=1,[3]=3})", "$10 [1,null,3]"),
    (
        "local r = cjson.encode({[1]=1,[100]=3}) return r",
        bad!("Cannot serialise table: excessively sparse array"),
    ),
    (
        "local r = cjson.encode({[true]=1}) return r",
        bad!("Cannot serialise boolean: table key must be a number or string"),
    ),
    (
        "local r = cjson.encode({function() end}) return r",
        bad!("Cannot serialise function: type not supported"),
    ),
    (
        "local r = cjson.encode({a=0/0}) return r",
        bad!("Cannot serialise number: must not be NaN or Inf"),
    ),
    (
        "local t={} t.t=t local r = cjson.encode(t) return r",
        bad!("Cannot serialise, excessive nesting (1001)"),
    ),
    (
        "local r = cjson.encode() return r",
        bad!("bad argument #1 to 'encode' (expected 1 argument)"),
    ),
    ("return cjson.encode('/\\127\\1')", "$16 \"\\/\\u007f\\u0001\""),
    (
        "local d = cjson.decode('{\"a\":[1,2,{\"b\":null}],\"c\":-1.5e3,\"d\":\"\\\\u00e9\\\\n\"}') return {d.d, d.c, d.a[2], \
          tostring(d.a[3].b == cjson.null)}",
        "*4 $3 é\n :-1500 :2 $4 true",
    ),
    ("return cjson.encode(cjson.decode('[0x10,01,1e2,[],{}]'))", "$16 [16,1,100,{},{}]"),
    (
        "local r = cjson.decode('{') return r",
        bad!("Expected object key string but found T_END at character 2"),
    ),
    ("local r = cjson.decode('') return r", bad!("Expected value but found T_END at character 1")),
    (
        "local r = cjson.decode('[1,') return r",
        bad!("Expected value but found T_END at character 4"),
    ),
    (
        "local r = cjson.decode('{\"a\"}') return r",
        bad!("Expected colon but found T_OBJ_END at character 5"),
    ),
    (
        "local r = cjson.decode('tru') return r",
        bad!("Expected value but found invalid token at character 1"),
    ),
    (
        "local r = cjson.decode('1 2') return r",
        bad!("Expected the end but found T_NUMBER at character 3"),
    ),
    (
        "local r = cjson.decode('\"abc') return r",
        bad!("Expected value but found unexpected end of string at character 5"),
    ),
    (
        "local r = cjson.decode('\"\\\\x\"') return r",
        bad!("Expected value but found invalid escape code at character 2"),
    ),
    (
        "local r = cjson.decode('-') return r",
        bad!("Expected value but found invalid number at character 1"),
    ),
    (
        "local r = cjson.decode('[1 2]') return r",
        bad!("Expected comma or array end but found T_NUMBER at character 4"),
    ),
    (
        "local r = cjson.decode(string.rep('[', 2000)) return r",
        bad!("Found too many nested data structures (1001)"),
    ),
    ("return cjson.decode('\"\\\\ud83d\\\\ude00\"')", "$4 😀"),
    (
        "return {cjson.encode_max_depth(), cjson.encode_number_precision(), cjson._NAME}",
        "*3 :1000 :14 $5 cjson",
    ),
];

#[test]
fn cjson_is_that_of_redis() {
    check(CJSON);
}

#[test]
fn cmsgpack_is_that_of_redis() {
    for (value, hex) in [
        ("nil", "c0"),
        ("true", "c3"),
        ("0", "00"),
        ("127", "7f"),
        ("128", "cc80"),
        ("65535", "cdffff"),
        ("65536", "ce00010000"),
        ("4294967296", "cf0000000100000000"),
        ("-1", "ff"),
        ("-33", "d0df"),
        ("-32769", "d2ffff7fff"),
        ("-2147483649", "d3ffffffff7fffffff"),
        ("1.5", "ca3fc00000"),
        ("0.1", "cb3fb999999999999a"),
        ("2^63", "ca5f000000"),
        ("-2^63", "d38000000000000000"),
        ("'a'", "a161"),
        ("{}", "90"),
        ("{1,2,3}", "93010203"),
        ("{a=1}", "81a16101"),
        ("{[2]=1}", "810201"),
        ("1,2,'x'", "0102a178"),
        ("1/0", "ca7f800000"),
        ("0/0", "cbfff8000000000000"),
        ("print and 1 or 2", "01"),
    ] {
        let value = value.replace("print and 1 or 2", "1");
        let script = format!(
            "local s = '' local d = cmsgpack.pack({value}) for i=1,#d do s = s .. string.format('%02x', d:byte(i)) end \
             return s"
        );
        check(&[(&script, &format!("${} {hex}", hex.len()))]);
    }
    let bad = |text: &str| format!("-ERR user_script:1: {text}");
    check(&[
        ("local r = cmsgpack.unpack('\\129') return r", &bad("Missing bytes in input.")),
        ("local r = cmsgpack.unpack('\\193') return r", &bad("Bad data format in input.")),
        ("return {cmsgpack.unpack('\\1\\2\\3')}", "*3 :1 :2 :3"),
        ("return {cmsgpack.unpack_one('\\1\\2\\3')}", "*2 :1 :1"),
        ("return {cmsgpack.unpack_one('\\1\\2\\3',2)}", "*2 :-1 :3"),
        (
            "return {cmsgpack.unpack_one('\\1\\2\\3',9)}",
            &bad("Start offset 9 greater than input length 3."),
        ),
        ("return {cmsgpack.unpack_limit('\\1\\2\\3',2)}", "*3 :2 :1 :2"),
        ("return {cmsgpack.unpack_limit('\\1\\2\\3',0)}", "*3 :1 :2 :3"),
        ("local t={} t[1]=t return #cmsgpack.pack(t)", ":17"),
        (
            "local r = cmsgpack.unpack(('\\145'):rep(5000)) return r",
            &bad("Bad data format in input."),
        ),
        (
            "return cjson.encode(cmsgpack.unpack(cmsgpack.pack({a={1,-5,'x',true}})))",
            "$21 {\"a\":[1,-5,\"x\",true]}",
        ),
        (
            "local s = {} for i = 1, 70000 do s[i] = i end return #cmsgpack.unpack(cmsgpack.pack(s))",
            ":70000",
        ),
    ]);
}

#[test]
fn struct_is_that_of_redis() {
    for (values, hex) in [
        ("'>I4',1", "00000001"),
        ("'<I2',258", "0201"),
        ("'>hHbB',-1,65535,-1,255", "ffffffffffff"),
        ("'fd',1.5,2.5", "0000c03f0000000000000440"),
        ("'s','abc'", "61626300"),
        ("'c0','abc'", "616263"),
        ("'c2','abcde'", "6162"),
        ("'xbx',1", "000100"),
        ("'>!4bi',1,2", "0100000000000002"),
        ("'i3',5", "050000"),
        ("'Ic0',3,'abc'", "03000000616263"),
        ("'i',2^31", "00000080"),
        ("'<I8',2^40", "0000000000010000"),
        ("'i16',1", "01000000000000000000000000000000"),
        ("'b',300", "2c"),
    ] {
        let script = format!(
            "local s = '' local d = struct.pack({values}) for i=1,#d do s = s .. string.format('%02x', d:byte(i)) end \
             return s"
        );
        check(&[(&script, &format!("${} {hex}", hex.len()))]);
    }
    let bad = |text: &str| format!("-ERR user_script:1: {text}");
    check(&[
        (
            "local r = struct.pack('z',1) return r",
            &bad("bad argument #1 to 'pack' (invalid format option 'z')"),
        ),
        (
            "local r = struct.pack('i33',1) return r",
            &bad("integral size 33 is larger than limit of 32"),
        ),
        ("local r = struct.pack('!3i',1) return r", &bad("alignment 3 is not a power of 2")),
        (
            "local r = struct.pack('c5','abc') return r",
            &bad("bad argument #2 to 'pack' (string too short)"),
        ),
        ("return {struct.unpack('>I4','\\0\\0\\0\\5\\0\\0\\0\\6',5)}", "*2 :6 :9"),
        ("return {struct.unpack('<i2B','\\255\\255\\7')}", "*3 :-1 :7 :4"),
        ("return {struct.unpack('s','abc\\0def')}", "*2 $3 abc :5"),
        ("return {struct.unpack('s','abc')}", &bad("unfinished string in data")),
        ("return {struct.unpack('Bc0','\\3abc')}", "*2 $3 abc :5"),
        ("return {struct.unpack('c0','\\3abc')}", &bad("format 'c0' needs a previous size")),
        (
            "return {struct.unpack('I4','ab')}",
            &bad("bad argument #2 to 'unpack' (data string too short)"),
        ),
        (
            "return {struct.unpack('I4','abcd',-1)}",
            &bad("bad argument #2 to 'unpack' (data string too short)"),
        ),
        (
            "return {struct.size('I4hb'),struct.size('!I4bi'),struct.size('c5'),struct.size('d f l')}",
            "*4 :7 :12 :5 :20",
        ),
        (
            "local r = struct.size('s') return r",
            &bad("bad argument #1 to 'size' (option 's' has no fixed size)"),
        ),
    ]);
}
