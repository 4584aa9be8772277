//! When two replies count as the same; what may differ stands in tests/explained.txt.

use socketley::proto::resp::{ReplyReader, Value};

use crate::explained::is_explained;
use crate::show;

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
pub fn sorted(value: &Value, width: usize) -> Vec<String> {
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
pub fn scalars(value: &Value) -> Vec<String> {
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
pub fn timeless(value: &Value) -> Vec<String> {
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
pub fn numbers(mut texts: Vec<String>) -> Vec<String> {
    for text in &mut texts {
        if let Some(number) = text.parse::<f64>().ok().filter(|_| text.contains('.')) {
            *text = number.to_string();
        }
    }
    texts
}

/// The kinds and lengths of a value without its bytes.
pub fn shape(value: &Value) -> String {
    let all = |items: &[Value]| items.iter().map(shape).collect::<Vec<String>>().join(",");
    match value {
        Value::Array(items) => format!("[{}]", all(items)),
        Value::Set(items) => format!("{{{}}}", all(items)),
        Value::Bulk(_) => "bulk".to_owned(),
        Value::Double(_) => "double".to_owned(),
        other => format!("{other:?}"),
    }
}
