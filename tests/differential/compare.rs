//! When two replies count as the same, and the one table of explained differences.

use socketley::proto::resp::{ReplyReader, Value};

use crate::show;

/// Replies may differ here, because Redis 7.0 (the judge) isn't 7.4 (whose behaviour is ours), or because chance, time or
/// order isn't promised.
struct Difference {
    /// Commands it is about, in lower case; `*` at the end stands for the rest.
    commands: &'static [&'static str],
    /// Why it isn't a fault.
    why: &'static str,
    /// Whether this difference is that one.
    explains: fn(&[Vec<u8>], &Value, &Value) -> bool,
}

const EXPLAINED: &[Difference] = &[
    Difference {
        commands: &["z*"],
        why: "since 7.2 scores are the shortest text that reads back equal, before they had 17 digits",
        explains: |_, mine, theirs| numbers(scalars(mine)) == numbers(scalars(theirs)),
    },
    Difference {
        commands: &["z*"],
        why: "7.2 packs a zero without its sign, so whether one has it depends on the forms that it went through",
        explains: |_, mine, theirs| {
            let unsigned = |value: &Value| {
                let texts = numbers(scalars(value)).into_iter();
                let zero = |text: String| match text.as_str() {
                    "-0" => "0".to_owned(),
                    "Double(-0.0)" => "Double(0.0)".to_owned(),
                    _ => text,
                };
                texts.map(zero).collect::<Vec<String>>()
            };
            unsigned(mine) == unsigned(theirs)
        },
    },
    Difference {
        commands: &["zrank", "zrevrank"],
        why: "since 7.2 they take WITHSCORE",
        explains: |command, _, _| command.len() == 4,
    },
    Difference {
        commands: &["smembers", "sinter", "sunion", "sdiff", "keys", "hkeys", "hvals"],
        why: "the order of sets, hashes and keys isn't promised",
        explains: |_, mine, theirs| sorted(mine, 1) == sorted(theirs, 1),
    },
    Difference {
        commands: &["hgetall"],
        why: "the order of fields isn't promised",
        explains: |_, mine, theirs| sorted(mine, 2) == sorted(theirs, 2),
    },
    Difference {
        commands: &["config"],
        why: "the order of parameters isn't promised, and 7.0 knows no packed sets",
        explains: |_, mine, theirs| {
            let mut mine = sorted(mine, 2);
            mine.retain(|pair| !pair.contains("\"set-max") && !pair.contains("[115, 101, 116"));
            mine == sorted(theirs, 2)
        },
    },
    Difference {
        commands: &["scan", "sscan", "hscan", "zscan"],
        why: "cursors that the server didn't give mean nothing, and their pages differ",
        explains: |command, _, _| {
            crate::generate::cursor_index(command).is_none() && command.len() > 1
        },
    },
    Difference {
        commands: &["object"],
        why: "text that is an integer's is called so, however it came to be; Redis asks only when it is SET",
        explains: |_, mine, theirs| {
            let other = [Value::Bulk(b"embstr".to_vec()), Value::Bulk(b"raw".to_vec())];
            *mine == Value::Bulk(b"int".to_vec()) && other.contains(theirs)
        },
    },
    Difference {
        commands: &["zincrby"],
        why: "Redis reads ZADD's options there, which leaves a wrong number of arguments",
        explains: |command, _, _| command[2] == b"NX" || command[2] == b"XX",
    },
    Difference {
        commands: &["bitcount", "bitpos"],
        why: "since 7.2 arguments are checked before the key is looked up",
        explains: |_, mine, theirs| matches!(mine, Value::Error(_)) && !mine.eq(theirs),
    },
    Difference {
        commands: &["sort", "sort_ro"],
        why: "BY leaves the order of equal weights open, and without weights that of sets",
        explains: |command, mine, theirs| {
            let by = command.iter().position(|word| word == b"BY");
            let limited = command.iter().any(|word| word == b"LIMIT");
            by.is_some() && (limited || sorted(mine, 1) == sorted(theirs, 1))
        },
    },
    Difference {
        commands: &["object"],
        why: "Redis unpacks a sorted set for good when it is sorted",
        explains: |_, mine, theirs| {
            *mine == Value::Bulk(b"listpack".to_vec())
                && *theirs == Value::Bulk(b"skiplist".to_vec())
        },
    },
    Difference {
        commands: &["wait"],
        why: "since 7.2 a time that overflows is refused",
        explains: |command, mine, _| {
            command[2] == b"9223372036854775807" && matches!(mine, Value::Error(_))
        },
    },
    Difference {
        commands: &["lrem", "lpos"],
        why: "since 7.2 the smallest count or rank is refused, because it has no positive partner",
        explains: |command, _, _| command[2..].iter().any(|word| word == b"-9223372036854775808"),
    },
    Difference {
        commands: &["xinfo", "xpending"],
        why: "the two clocks aren't read at the same moment; 7.2 tells when a consumer last got something and 7.4 counts \
              what a group has read in more cases",
        explains: |_, mine, theirs| {
            matches!(mine, Value::Array(_) | Value::Map(_)) && timeless(mine) == timeless(theirs)
        },
    },
    Difference {
        commands: &["*"],
        why: "since 7.2 the last line of HELP says \"Print\"",
        explains: |command, mine, theirs| match (mine, theirs) {
            (Value::Array(mine), Value::Array(theirs)) => {
                command.len() == 2
                    && command[1].eq_ignore_ascii_case(b"help")
                    && mine.len() == theirs.len()
                    && mine[..mine.len() - 1] == theirs[..theirs.len() - 1]
            }
            _ => false,
        },
    },
    Difference {
        commands: &["xread"],
        why: "since 7.4 `+` is the last entry's id",
        explains: |command, _, _| command.iter().any(|word| word == b"+"),
    },
    Difference {
        commands: &["xread", "xreadgroup"],
        why: "since 7.2 the error names the command, and since 7.4 `+` isn't an id",
        explains: |_, mine, theirs| match (mine, theirs) {
            (Value::Error(mine), Value::Error(theirs)) => {
                let (mine, theirs) = (mine.escape_ascii(), theirs.escape_ascii());
                let (mine, theirs) = (mine.to_string(), theirs.to_string());
                (mine.contains("Unbalanced") && theirs.contains("Unbalanced"))
                    || mine.contains("The + ID is meaningless")
            }
            _ => false,
        },
    },
    Difference {
        commands: &["xsetid"],
        why: "since 7.2 an id below the highest deleted one is refused",
        explains: |_, mine, _| match mine {
            Value::Error(text) => text.ends_with(b"current max_deleted_entry_id"),
            _ => false,
        },
    },
    Difference {
        commands: &["hello"],
        why: "version and client number are each server's own",
        explains: |_, mine, theirs| {
            let rest = |value: &Value| {
                let mut all = scalars(value);
                all.retain(|text| !text.starts_with("Integer") && !text.starts_with("7."));
                all
            };
            rest(mine) == rest(theirs)
        },
    },
    Difference {
        commands: &["ttl", "pttl", "expiretime", "pexpiretime"],
        why: "the two clocks aren't read at the same moment",
        explains: |_, mine, theirs| match (mine, theirs) {
            (Value::Integer(mine), Value::Integer(theirs)) => {
                *mine > 0 && (mine - theirs).abs() < 10_000
            }
            _ => false,
        },
    },
    Difference {
        commands: &["srandmember", "hrandfield", "zrandmember", "randomkey"],
        why: "chance decides",
        explains: |_, mine, theirs| shape(mine) == shape(theirs),
    },
    Difference {
        commands: &["object"],
        why: "7.2 packs small sets of strings and small lists without quicklist; 7.0 doesn't",
        explains: |_, mine, theirs| {
            let text = |value: &Value| match value {
                Value::Bulk(text) => text.clone(),
                _ => Vec::new(),
            };
            matches!(
                (text(mine).as_slice(), text(theirs).as_slice()),
                (b"listpack", b"hashtable" | b"quicklist") | (b"hashtable", b"listpack")
            )
        },
    },
];

/// Compares two replies; says what differs and isn't explained.
pub fn same(command: &[Vec<u8>], mine: &[u8], theirs: &[u8]) -> Result<(), String> {
    if mine == theirs {
        return Ok(());
    }
    if is_explained(command, &value(mine), &value(theirs)) {
        return Ok(());
    }
    let text = |bytes: &[u8]| bytes[..bytes.len().min(300)].escape_ascii().to_string();
    Err(format!("{}\n  ours   {}\n  theirs {}", show(command), text(mine), text(theirs)))
}

/// Compares what EXEC answered, command by command.
pub fn same_transaction(queued: &[Vec<Vec<u8>>], mine: &[u8], theirs: &[u8]) -> Result<(), String> {
    let exec = [b"EXEC".to_vec()];
    let (Value::Array(my_values), Value::Array(their_values)) = (value(mine), value(theirs)) else {
        return same(&exec, mine, theirs);
    };
    if my_values.len() != queued.len() || their_values.len() != queued.len() {
        let (mine, theirs, queued) = (my_values.len(), their_values.len(), queued.len());
        return Err(format!("EXEC answered {mine} and {theirs} of {queued} commands"));
    }
    let different = queued
        .iter()
        .zip(my_values.iter().zip(&their_values))
        .find(|(command, (mine, theirs))| mine != theirs && !is_explained(command, mine, theirs));
    let Some((command, (mine, theirs))) = different else { return Ok(()) };
    Err(format!("EXEC of {}\n  ours   {mine:?}\n  theirs {theirs:?}", show(command)))
}

fn is_explained(command: &[Vec<u8>], mine: &Value, theirs: &Value) -> bool {
    let name = String::from_utf8_lossy(&command[0]).to_ascii_lowercase();
    let explained = EXPLAINED.iter().find(|difference| {
        difference.commands.iter().any(|pattern| is_named(&name, pattern))
            && (difference.explains)(command, mine, theirs)
    });
    debug_assert!(explained.is_none_or(|difference| !difference.why.is_empty()));
    explained.is_some()
}

/// What the judge has to run instead, when the command chose by chance on our side.
pub fn follow(command: &[Vec<u8>], mine: &[u8]) -> Option<Vec<Vec<u8>>> {
    if !command[0].eq_ignore_ascii_case(b"spop") {
        return None;
    }
    let members: Vec<Vec<u8>> = match value(mine) {
        Value::Bulk(member) => vec![member],
        Value::Array(members) | Value::Set(members) if !members.is_empty() => {
            members.into_iter().filter_map(bulk).collect()
        }
        _ => return None,
    };
    Some([b"SREM".to_vec(), command[1].clone()].into_iter().chain(members).collect())
}

/// Consumers that 7.2 makes even if there is nothing to read or claim for them, which the judge has to make too.
pub fn consumers(command: &[Vec<u8>], mine: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let create = |key: &Vec<u8>, group: &Vec<u8>, consumer: &Vec<u8>| {
        let words = [&b"XGROUP"[..], b"CREATECONSUMER", key, group, consumer];
        words.map(<[u8]>::to_vec).to_vec()
    };
    if mine.starts_with(b"-") || mine.starts_with(b"+") {
        return Vec::new();
    }
    match command[0].as_slice() {
        b"XCLAIM" | b"XAUTOCLAIM" => vec![create(&command[1], &command[2], &command[3])],
        b"XREADGROUP" => {
            let streams = command.iter().position(|word| word == b"STREAMS");
            let first = streams.map_or(command.len(), |at| at + 1);
            let keys = command[first..].iter().take((command.len() - first) / 2);
            keys.map(|key| create(key, &command[2], &command[3])).collect()
        }
        _ => Vec::new(),
    }
}

/// The cursor and the elements of a scan's reply.
pub fn page(reply: &[u8]) -> Option<(Vec<u8>, Vec<Value>)> {
    let Value::Array(parts) = value(reply) else { return None };
    match <[Value; 2]>::try_from(parts).ok()? {
        [Value::Bulk(cursor), Value::Array(elements)] => Some((cursor, elements)),
        _ => None,
    }
}

/// A page's elements as text; fields and scores stay with their partners.
pub fn elements(command: &[Vec<u8>], page: Vec<Value>) -> Vec<String> {
    let pairs = matches!(command[0].to_ascii_lowercase().as_slice(), b"hscan" | b"zscan");
    let chunks = page.chunks(if pairs { 2 } else { 1 });
    chunks.map(|chunk| numbers(chunk.iter().flat_map(scalars).collect()).join(" = ")).collect()
}

fn bulk(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::Bulk(bytes) => Some(bytes),
        _ => None,
    }
}

fn value(reply: &[u8]) -> Value {
    let read = ReplyReader::default().read(reply).expect("both sides speak RESP");
    read.expect("the reply is whole").0
}

/// The items, `width` of them together, in an order of their own; with the kind of aggregate in front.
fn sorted(value: &Value, width: usize) -> Vec<String> {
    let (kind, mut items): (&str, Vec<String>) = match value {
        Value::Array(items) => {
            ("array", items.chunks(width).map(|chunk| format!("{chunk:?}")).collect())
        }
        Value::Set(items) => ("set", items.iter().map(|item| format!("{item:?}")).collect()),
        Value::Map(pairs) => ("map", pairs.iter().map(|pair| format!("{pair:?}")).collect()),
        other => ("scalar", vec![format!("{other:?}")]),
    };
    items.sort();
    items.insert(0, kind.to_owned());
    items
}

/// All scalars of a value in order.
fn scalars(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) | Value::Set(items) | Value::Push(items) => {
            items.iter().flat_map(scalars).collect()
        }
        Value::Map(pairs) => {
            pairs.iter().flat_map(|(key, value)| [scalars(key), scalars(value)].concat()).collect()
        }
        Value::Bulk(text) => vec![text.escape_ascii().to_string()],
        other => vec![format!("{other:?}")],
    }
}

/// A description of streams, groups or what is pending without times and what follows from them.
fn timeless(value: &Value) -> Vec<String> {
    const DROPPED: &[&[u8]] =
        &[b"idle", b"inactive", b"seen-time", b"active-time", b"lag", b"entries-read"];
    let dropped = |name: &Value| matches!(name, Value::Bulk(name) if DROPPED.contains(&&name[..]));
    match value {
        Value::Map(pairs) => pairs
            .iter()
            .filter(|(name, _)| !dropped(name))
            .flat_map(|(name, value)| [timeless(name), timeless(value)].concat())
            .collect(),
        // A pending entry: id, consumer, time or idle time, deliveries; or the same without consumer.
        Value::Array(items) if items.len() == 4 && matches!(items[2], Value::Integer(_)) => {
            [scalars(&items[0]), scalars(&items[1]), scalars(&items[3])].concat()
        }
        Value::Array(items)
            if items.len() == 3
                && items[1..].iter().all(|item| matches!(item, Value::Integer(_))) =>
        {
            [scalars(&items[0]), scalars(&items[2])].concat()
        }
        Value::Array(items) => {
            let mut all = Vec::new();
            let mut rest = items.iter();
            while let Some(item) = rest.next() {
                if dropped(item) {
                    rest.next();
                } else {
                    all.extend(timeless(item));
                }
            }
            all
        }
        other => scalars(other),
    }
}

/// Texts of fractions in the one way that Rust prints them.
fn numbers(mut texts: Vec<String>) -> Vec<String> {
    for text in &mut texts {
        if let Some(number) = text.parse::<f64>().ok().filter(|_| text.contains('.')) {
            *text = number.to_string();
        }
    }
    texts
}

fn is_named(name: &str, pattern: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

/// The kinds and lengths of a value without its bytes.
fn shape(value: &Value) -> String {
    let all = |items: &[Value]| items.iter().map(shape).collect::<Vec<String>>().join(",");
    match value {
        Value::Array(items) => format!("[{}]", all(items)),
        Value::Set(items) => format!("{{{}}}", all(items)),
        Value::Bulk(_) => "bulk".to_owned(),
        Value::Double(_) => "double".to_owned(),
        other => format!("{other:?}"),
    }
}
