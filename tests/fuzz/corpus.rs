//! The seeds: whole, well-made inputs of every kind that the parsers know, the older ones as Redis wrote them. What once
//! broke something is added here; what a run guided by coverage has found lies beside, a line of hexadecimal each.

use socketley::persist::rdb::{Version, Writer};
use socketley::store::{Settings, SharedStore};

/// Values as DUMP answers them, without version and sum, by hand or from redis-server 7.0.15 and 7.4.
const VALUES: &[&str] = &[
    "000568656c6c6f",
    "00c30a40c802616261e0ba0101616201",
    "00c26079feff",
    "1204020b0b000000020000010101ff020b0b000000020002010301ff020b0b000000020004010501ff02090900000001000601ff",
    "12020103616263020909000000010006 01ff",
    "0b140400000003000000feffffff0100000070110100",
    "0203c0010161 0162",
    "140c0c00000002008161020501ff",
    "10c31d2b152b00000006008166028176028167020c018168029478e00a000115ff",
    "0402016ec0050166c3094050017676e04300017676",
    "11c331391f390000000800816302842d696e6605816102010181620283322e35048164029702312e30e005000731652b33303018ff",
    "050201630000 00000000f07f01620000000000000440",
    "03030161 03312e35 0162 fe 0163 ff",
    "0a16 16000000 13000000 0400 00 01 66 03 01 76 03 fe 9c 03 f3 ff",
    "0d16 16000000 13000000 0400 00 01 66 03 01 76 03 fe 9c 03 f3 ff",
    "0e01 16 16000000 13000000 0400 00 01 66 03 01 76 03 fe 9c 03 f3 ff",
    "0c18 18000000 12000000 0400 00 01 61 03 f2 02 01 62 03 03312e35 ff",
    "090d 02 01 61 01 01 31 00 01 62 01 00 32 ff",
    "18 1027000000000000 02 00 01 61 01 31 02 01 62 01 32",
    "16 02 00 01 61 01 31 4f11 01 62 01 32",
    "19 1027000000000000 19 19000000 0600 8161 02 8131 02 00 01 8162 02 8132 02 f11127 03 ff",
    "c8 02 02 01 61 01 62 01 01 61 1027000000000000",
];

/// Commands whose values are dumped for more seeds.
const MADE: &[&[&str]] = &[
    &[
        "XADD k 1-1 f v g w",
        "XADD k 2-1 f v g w",
        "XGROUP CREATE k g 0",
        "XREADGROUP GROUP g c STREAMS k >",
        "XDEL k 1-1",
    ],
    &["HSET k f v g w", "HPEXPIREAT k 99999999999 FIELDS 1 f"],
    &["ZADD k 1.5 a 2 b inf c", "ZPEXPIREAT k 99999999999 MEMBERS 1 a"],
    &["SADD k 1 2 3", "SPEXPIREAT k 99999999999 MEMBERS 1 2"],
    &["RPUSH k a b c 1 2 3"],
];

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let pair = |pair: &[u8]| {
        u8::from_str_radix(std::str::from_utf8(pair).expect("digits"), 16).expect("hexadecimal")
    };
    digits.chunks(2).map(pair).collect()
}

/// The store after commands, and a file of all its keys.
fn made(commands: &[&str]) -> (Vec<u8>, Vec<u8>) {
    let store = SharedStore::new(&Settings { now_ms: 1000, ..Settings::default() });
    let mut session = store.session(1000);
    let mut out = Vec::new();
    for line in commands {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        store.call(&mut session, &words, 1000, &mut out);
    }
    out.clear();
    store.call(&mut session, &[b"DUMP", b"k"], 1000, &mut out);
    let start = out.iter().position(|byte| *byte == b'\n').expect("a header") + 1;
    let value = out[start..out.len() - 12].to_vec();
    let held = store.lock(1000);
    let mut writer = Writer::new(Version::Redis74, &[("redis-ver", "7.4.0")]);
    writer.database(0, 1, 0);
    held.keyspace.databases()[0].table().iter().for_each(|entry| writer.entry(entry));
    writer.finish();
    (value, writer.take())
}

fn values() -> Vec<Vec<u8>> {
    let written = VALUES.iter().map(|hex| bytes(hex));
    written.chain(MADE.iter().map(|commands| made(commands).0)).collect()
}

fn files() -> Vec<Vec<u8>> {
    let old = b"REDIS0003\xfe\x00\xfd\x0a\x00\x00\x00\x00\x01k\x01v\xff\0\0\0\0\0\0\0\0".to_vec();
    let skipped = b"REDIS0012\xf4\x01\x02\x03\xf8\x07\xfc\x0a\0\0\0\0\0\0\0\x00\x01k\x01v\xff\0\0\0\0\0\0\0\0";
    let made = MADE.iter().map(|commands| made(commands).1);
    made.chain([old, skipped.to_vec()]).collect()
}

fn requests() -> Vec<Vec<u8>> {
    let texts: &[&[u8]] = &[
        b"*1\r\n$4\r\nPING\r\n",
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nvalue\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n",
        b"*0\r\n*-1\r\n\r\n*1\r\n$0\r\n\r\n",
        b"PING\r\nSET k \"a \\x41\\n\" 'b'\r\nGET k\n",
        b"*2\r\n$4\r\nECHO\r\n$20\r\n\r\n$5\r\n*3\r\n:1\r\n+OK\r\n\r\n\r\n",
        b"%2\r\n+a\r\n:1\r\n+b\r\n*2\r\n,1.5\r\n#t\r\n",
        b"~1\r\n_\r\n>2\r\n=7\r\ntxt:abc\r\n(123456789012345678901234567890\r\n",
    ];
    texts.iter().map(|text| text.to_vec()).collect()
}

fn blobs() -> Vec<Vec<u8>> {
    let hex = [
        "8161028162 02",
        "0001 7f01 df ff 02 f1 1127 03 f4 0000000000000080 09",
        "e04162",
        "f0 05000000 6162636465 0a",
    ];
    let mut seeds: Vec<Vec<u8>> = hex.iter().map(|hex| bytes(hex)).collect();
    let mut long = vec![0xe0, 0x81];
    long.extend(vec![b'x'; 129]);
    long.extend([0x01, 0x83]);
    seeds.push(long);
    seeds
}

/// Values with the choice of what is done with them in front.
fn restored() -> Vec<Vec<u8>> {
    let values = values().into_iter().enumerate();
    values.map(|(index, value)| [&[0, index as u8][..], &value].concat()).collect()
}

fn manifests() -> Vec<Vec<u8>> {
    texts(&[
        b"file appendonly.aof.1.base.rdb seq 1 type b\nfile appendonly.aof.1.incr.aof seq 1 type i\n",
        b"# comment\n\nfile \"with blank \\x41\\\"\" seq 18446744073709551615 type h\r\n",
    ])
}

/// The seeds of a target, by hand.
///
/// # Panics
/// When no target has this name.
pub fn of(target: &str) -> Vec<Vec<u8>> {
    match target {
        "requests" | "replies" => requests(),
        "values" => values(),
        "restored" => restored(),
        "files" => files(),
        "manifests" => manifests(),
        "blobs" => blobs(),
        "http_requests" => http_requests(),
        "http_responses" => http_responses(),
        "websocket_frames" => websocket_frames(),
        "websocket_handshakes" => websocket_handshakes(),
        "proxy_headers" => proxy_headers(),
        "control_frames" => control_frames(),
        "streams" => streams(),
        _ => panic!("no seeds are known for {target}"),
    }
}

/// What a run guided by coverage has found for a target.
pub fn kept(target: &str) -> Vec<Vec<u8>> {
    // The crate of the runs guided by coverage stands inside of the project.
    let project = env!("CARGO_MANIFEST_DIR").trim_end_matches("/tests/fuzz/coverage");
    let path = format!("{project}/tests/fuzz/corpus/{target}.hex");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    text.lines().map(bytes).collect()
}

fn texts(texts: &[&[u8]]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.to_vec()).collect()
}

fn http_requests() -> Vec<Vec<u8>> {
    texts(&[
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /b?c=%20 HTTP/1.0\r\n\r\n",
        b"\r\nPOST /x HTTP/1.1\r\nHost: a:80\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
        b"PUT /x HTTP/1.1\r\nHost: [::1]\r\nTransfer-Encoding: chunked\r\n\r\n5;a=\"b\\\"\"\r\nhello\r\n0\r\nTrailer: x\r\n\r\n",
        b"GET http://a/b HTTP/1.1\r\nHost: a\r\nConnection: close, upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost:\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
    ])
}

fn http_responses() -> Vec<Vec<u8>> {
    texts(&[
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok",
        b"HTTP/1.0 304 \r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    ])
}

fn websocket_frames() -> Vec<Vec<u8>> {
    let mut seeds = texts(&[
        b"\x02\x81\x85\x01\x02\x03\x04igojn\x88\x82\0\0\0\0\x03\xe8",
        b"\x02\x01\x81\0\0\0\0a\x89\x81\0\0\0\0p\x80\x82\0\0\0\0\xc3\xa9",
        b"\x03\x82\x02ab\x8a\0\x88\x06\x0f\xa0bye!",
        b"\x01\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\0",
        b"\x00\xc2\x87\0\0\0\0\xf2\x48\xcd\xc9\xc9\x07\0",
    ]);
    let mut long = vec![0x03, 0x82, 126, 1, 0];
    long.extend([7; 256]);
    seeds.push(long);
    seeds
}

fn websocket_handshakes() -> Vec<Vec<u8>> {
    texts(&[
        b"GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: chat, more\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits; server_max_window_bits=10\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: EE6Hp8tZhmLMiCNWTEmTyIaBpIk=\r\nSec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n\r\n",
    ])
}

fn proxy_headers() -> Vec<Vec<u8>> {
    let binary = b"\r\n\r\n\0\r\nQUIT\n";
    let second = |rest: &[u8]| [binary, rest].concat();
    let mut seeds = texts(&[
        b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\nGET /",
        b"PROXY TCP6 2001:db8::1 ::2 1 65535\r\n",
        b"PROXY UNKNOWN anything goes here\r\n",
    ]);
    seeds.push(second(b"\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\x12\x34\x01\xbbrest"));
    seeds.push(second(b"\x20\0\0\0"));
    seeds.push(second(&[&b"\x21\x21\0\x29"[..], &[1; 36], b"\x04\0\x02ab"].concat()));
    seeds
}

fn control_frames() -> Vec<Vec<u8>> {
    let frame = |json: &str| [&(json.len() as u32).to_be_bytes()[..], json.as_bytes()].concat();
    let jsons = [
        r#"{"v":1,"command":"send","arguments":{"name":"a\nb","n":[1,2.5,null,true]},"tty":false,"cwd":"/"}"#,
        r#"{"input":"line","text":"über"}"#,
        r#"{"input":"end"}"#,
        "[[[[[[]]]]]]",
    ];
    let mut seeds: Vec<Vec<u8>> = jsons.iter().map(|json| frame(json)).collect();
    seeds.push(seeds.concat());
    seeds
}

fn streams() -> Vec<Vec<u8>> {
    let mut seeds = texts(&[
        b"hello\r\nworld\n",
        b"\x16\x03\x01\x02\0\x01",
        b"GET /a HTTP/1.1\r\n\r\n",
        b"\0\0\0\x05hello\0\x02hi\x01x",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ]);
    seeds.extend(http_requests());
    seeds
}
