//! Every input is fed whole and cut at every byte; the commands must be the same.

use super::*;

/// What a stream of requests amounts to, and the error that ended it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Stream {
    commands: Vec<Vec<Vec<u8>>>,
    error: Option<ProtocolError>,
    /// Bytes of a half command at the end.
    rest: usize,
}

/// Feeds `input` in pieces that end at `cuts`.
fn feed(input: &[u8], cuts: &[usize], unauthenticated: bool) -> Stream {
    let mut parser = RequestParser { unauthenticated, ..RequestParser::default() };
    let mut stream = Stream::default();
    let mut consumed_all = 0;
    for end in cuts.iter().map(|cut| (*cut).min(input.len())).chain([input.len()]) {
        loop {
            let bytes = &input[consumed_all..end];
            let mut spans = vec![Span { start: 77, len: 77 }];
            match parser.parse(bytes, &mut spans) {
                Ok(Parsed::Command { consumed, rewritten }) => {
                    let base = if rewritten { parser.rewritten() } else { bytes };
                    let word =
                        |s: &Span| base[s.start as usize..(s.start + s.len) as usize].to_vec();
                    stream.commands.push(spans[1..].iter().map(word).collect());
                    consumed_all += consumed;
                    assert!(!parser.is_inside());
                }
                Ok(Parsed::Skip { consumed }) => consumed_all += consumed,
                Ok(Parsed::Incomplete) => {
                    assert_eq!(spans.len(), 1, "nothing is left behind");
                    break;
                }
                Err(error) => {
                    stream.error = Some(error);
                    return stream;
                }
            }
        }
    }
    stream.rest = input.len() - consumed_all;
    stream
}

/// Whole, at every cut, and for short inputs at every pair of cuts.
fn check(input: &[u8], unauthenticated: bool) -> Stream {
    let whole = feed(input, &[], unauthenticated);
    for cut in 0..=input.len() {
        assert_eq!(
            feed(input, &[cut], unauthenticated),
            whole,
            "{:?} cut at {cut}",
            input.escape_ascii().to_string()
        );
        if input.len() <= 64 {
            for second in cut..=input.len() {
                assert_eq!(
                    feed(input, &[cut, second], unauthenticated),
                    whole,
                    "cut at {cut} and {second}"
                );
            }
        }
    }
    let every_byte: Vec<usize> = (0..input.len()).collect();
    assert_eq!(feed(input, &every_byte, unauthenticated), whole);
    whole
}

fn words(commands: &[&[&str]]) -> Vec<Vec<Vec<u8>>> {
    commands
        .iter()
        .map(|command| command.iter().map(|word| word.as_bytes().to_vec()).collect())
        .collect()
}

#[test]
fn commands() {
    let cases: &[(&str, &[&[&str]])] = &[
        ("*1\r\n$4\r\nPING\r\n", &[&["PING"]]),
        ("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1\r\n$4\r\nPING\r\n", &[&["GET", "k"], &["PING"]]),
        ("*2\r\n$4\r\nECHO\r\n$0\r\n\r\n", &[&["ECHO", ""]]),
        ("*2\r\n$4\r\nECHO\r\n$5\r\na\r\nb\n\r\n", &[&["ECHO", "a\r\nb\n"]]),
        ("*0\r\n*-1\r\n*-5\r\n\r\n\n*1\r\n$1\r\nx\r\n", &[&["x"]]),
        ("PING\r\n", &[&["PING"]]),
        ("PING\nPING\r\n", &[&["PING"], &["PING"]]),
        ("  set \t k  v \r\n", &[&["set", "k", "v"]]),
        ("set k \"a b\"\r\n", &[&["set", "k", "a b"]]),
        (
            "set k \"\\x41\\n\\r\\t\\b\\a\\\\\\\"\\q\"\r\n",
            &[&["set", "k", "A\n\r\t\u{8}\u{7}\\\"q"]],
        ),
        ("set k 'it\\'s \\n'\r\n", &[&["set", "k", "it's \\n"]]),
        ("a\"b c\"'d e' f\r\n", &[]),
        ("a\"b c\" f\r\n", &[&["ab c", "f"]]),
        ("\"\" ''\r\n", &[&["", ""]]),
        ("\"\\xZZ\"\r\n", &[&["xZZ"]]),
        ("   \r\nPING\r\n", &[&["PING"]]),
        // Nobody checks what follows a length's or an argument's `\r`.
        ("*1\rX$4\r_PING..*1\r\n$1\r\nx\r\n", &[&["PING"], &["x"]]),
    ];
    for (input, expected) in cases {
        assert_eq!(check(input.as_bytes(), false).commands, words(expected), "{input:?}");
    }
}

#[test]
fn errors() {
    use ProtocolError::*;
    for (input, error) in [
        ("*x\r\n", InvalidMultibulkLength),
        ("*\r\n", InvalidMultibulkLength),
        ("*01\r\n", InvalidMultibulkLength),
        ("*+1\r\n", InvalidMultibulkLength),
        ("* 1\r\n", InvalidMultibulkLength),
        ("*2147483648\r\n", InvalidMultibulkLength),
        ("*99999999999999999999\r\n", InvalidMultibulkLength),
        ("*1\r\n:1\r\n", ExpectedDollar(b':')),
        ("*1\r\n\r\n", ExpectedDollar(b'\r')),
        ("*1\r\n$-1\r\n", InvalidBulkLength),
        ("*1\r\n$x\r\n", InvalidBulkLength),
        ("*1\r\n$\r\n", InvalidBulkLength),
        ("*1\r\n$04\r\nPING\r\n", InvalidBulkLength),
        ("*1\r\n$536870913\r\n", InvalidBulkLength),
        ("*1\r\n$4294967296\r\n", InvalidBulkLength),
        ("set k \"a\r\n", UnbalancedQuotes),
        ("set k 'a\r\n", UnbalancedQuotes),
        ("set k \"a\"b\r\n", UnbalancedQuotes),
        ("set k \"a\\\"\r\n", UnbalancedQuotes),
    ] {
        let stream = check(input.as_bytes(), false);
        assert_eq!((stream.error, stream.commands), (Some(error), vec![]), "{input:?}");
    }
}

#[test]
fn the_largest_lengths_are_waited_for() {
    assert_eq!(check(b"*1\r\n$536870912\r\nabc", false).rest, 19);
    assert_eq!(check(b"*2147483647\r\n$1\r\na\r\n", false).rest, 20);
}

#[test]
fn strangers_have_narrower_limits() {
    use ProtocolError::*;
    assert_eq!(check(b"*10\r\n$1\r\na\r\n", true).error, None);
    assert_eq!(check(b"*11\r\n", true).error, Some(UnauthenticatedMultibulkLength));
    assert_eq!(check(b"*1\r\n$16384\r\n", true).error, None);
    assert_eq!(check(b"*1\r\n$16385\r\n", true).error, Some(UnauthenticatedBulkLength));
    assert_eq!(check(b"*2\r\n$4\r\nAUTH\r\n$1\r\np\r\n", true).commands, words(&[&["AUTH", "p"]]));
}

#[test]
fn lines_without_an_end_are_refused_at_64_kilobytes() {
    use ProtocolError::*;
    let filled = |head: &[u8], tail: &[u8], len: usize| {
        let mut input = head.to_vec();
        input.resize(head.len() + len - 1, b'1');
        input.extend_from_slice(tail);
        input
    };
    for (head, line, error) in
        [("", "a", TooBigInline), ("", "*", TooBigMultibulkCount), ("*1\r\n", "$", TooBigBulkCount)]
    {
        let head = [head.as_bytes(), line.as_bytes()].concat();
        for cuts in [vec![], vec![10, 70], vec![65_536], vec![65_537]] {
            let fits = filled(&head, b"", RESP_LINE_BYTES_MAX);
            assert_eq!(feed(&fits, &cuts, false).error, None);
            let over = filled(&head, b"\r\n", RESP_LINE_BYTES_MAX + 2);
            assert_eq!(feed(&over, &cuts, false).error, Some(error), "{line} {cuts:?}");
        }
    }
}

#[test]
fn all_arguments_together_are_bounded() {
    // The pages of the first argument are never touched.
    let head = b"*3\r\n$536870912\r\n";
    let tail = b"\r\n$536870900\r\n";
    let mut input = vec![0; head.len() + RESP_BULK_BYTES_MAX + tail.len()];
    input[..head.len()].copy_from_slice(head);
    let at = input.len() - tail.len();
    input[at..].copy_from_slice(tail);
    assert_eq!(
        RequestParser::default().parse(&input, &mut vec![]),
        Err(ProtocolError::TooBigRequest)
    );
}

#[test]
fn a_large_argument_is_not_scanned_again() {
    let mut parser = RequestParser::default();
    let mut input = b"*2\r\n$3\r\nGET\r\n$100000\r\n".to_vec();
    let header = input.len();
    input.resize(header + 100_000, b'\r');
    input.extend_from_slice(b"\r\n");
    let mut spans = Vec::new();
    assert_eq!(parser.parse(&input[..header + 10], &mut spans), Ok(Parsed::Incomplete));
    assert_eq!((parser.position, parser.bulk, parser.left), (header, Some(100_000), 1));
    assert_eq!(parser.bytes_expected(), input.len());
    assert_eq!(parser.parse(&input[..header + 50_000], &mut spans), Ok(Parsed::Incomplete));
    let whole = Parsed::Command { consumed: input.len(), rewritten: false };
    assert_eq!(parser.parse(&input, &mut spans), Ok(whole));
    assert_eq!(spans[1], Span { start: header as u32, len: 100_000 });
}

#[test]
fn errors_read_as_redis_words_them() {
    for (error, text) in [
        (ProtocolError::TooBigInline, "-ERR Protocol error: too big inline request\r\n"),
        (ProtocolError::ExpectedDollar(b':'), "-ERR Protocol error: expected '$', got ':'\r\n"),
        (ProtocolError::ExpectedDollar(b'\r'), "-ERR Protocol error: expected '$', got ' '\r\n"),
    ] {
        let mut out = Vec::new();
        error.write(&mut out);
        assert_eq!(out, text.as_bytes());
    }
}

/// Bytes that often look like the protocol, from a seed.
fn garbage(seed: u64, len: usize) -> Vec<u8> {
    let pieces: [&[u8]; 16] = [
        b"*", b"$", b"\r\n", b"\r", b"\n", b"1", b"3", b"0", b"-", b"\"", b"'", b"\\", b" ", b"x",
        b"\0", b"GET",
    ];
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::new();
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(pieces[(state >> 33) as usize % pieces.len()]);
    }
    bytes
}

#[test]
fn garbage_is_the_same_garbage_at_every_cut() {
    for seed in 0..3000 {
        let input = garbage(seed, 24);
        check(&input, seed % 2 == 0);
    }
    for seed in 0..2000 {
        // A stream that begins well-formed.
        let mut input = b"*2\r\n$3\r\nGET\r\n$3\r\nabc\r\n".to_vec();
        let cut = seed as usize % input.len();
        input.splice(cut..cut, garbage(seed, 3));
        check(&input, false);
    }
}
