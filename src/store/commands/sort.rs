//! SORT and SORT_RO: the elements of a list, set or sorted set in an order of their own or of other keys.

use std::cmp::Ordering;

use super::collection::{READ, WRITE, database, integer, is};
use super::{Call, Command, CommandResult, Flags, Keys, collection, table};
use crate::store::Args;
use crate::store::acl::User;
use crate::store::call::CommandError;
use crate::store::database::{Database, Expiry};
use crate::store::entry::Entry;
use crate::store::execute::until_nul;
use crate::store::hasher::Hasher;
use crate::store::list::{End, List};
use crate::store::session::State;
use crate::store::thresholds::REDIS;
use crate::store::value::{Value, ValueRef};

const fn sort_row(
    usage: (&'static str, i16),
    flags: Flags,
    about: (&'static str, &'static str),
    run: collection::Run,
) -> Command {
    collection::row("generic", usage, flags, Keys::ONE, about, run)
}

/// This file's rows.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    sort_row(("sort", -2), WRITE, ("1.0.0", "Sorts elements, and returns or stores them"), sort),
    sort_row(("sort_ro", -2), READ, ("7.0.0", "Returns sorted elements"), sort_ro),
];

/// SORT's options.
#[derive(Default)]
struct Options<'a> {
    descending: bool,
    by_text: bool,
    /// First element and number; negative: all.
    limit: Option<(i64, i64)>,
    /// Where the weights are.
    by: Option<&'a [u8]>,
    /// The pattern has no place for an element: nothing is sorted.
    unsorted: bool,
    get: Vec<&'a [u8]>,
    store: Option<&'a [u8]>,
}

impl<'a> Options<'a> {
    fn parse(args: Args<'a>, stores: bool) -> Result<Options<'a>, CommandError> {
        let mut options = Options::default();
        let mut index = 2;
        while let Some(option) = args.get(index) {
            let value = args.get(index + 1);
            index += 1;
            match (option, value) {
                _ if is(option, "asc") => options.descending = false,
                _ if is(option, "desc") => options.descending = true,
                _ if is(option, "alpha") => options.by_text = true,
                (_, Some(start)) if is(option, "limit") && index + 1 < args.len() => {
                    options.limit = Some((integer(start)?, integer(args.at(index + 1))?));
                    index += 2;
                }
                (_, Some(target)) if is(option, "store") && stores => {
                    options.store = Some(target);
                    index += 1;
                }
                (_, Some(pattern)) if is(option, "by") => {
                    options.by = Some(pattern);
                    options.unsorted = !until_nul(pattern, pattern.len()).contains(&b'*');
                    index += 1;
                }
                (_, Some(pattern)) if is(option, "get") => {
                    options.get.push(pattern);
                    index += 1;
                }
                _ => return Err(CommandError::Syntax),
            }
        }
        Ok(options)
    }

    /// What of `len` elements is wanted: from, and up to.
    fn window(&self, len: usize) -> (usize, usize) {
        let Some((start, count)) = self.limit else { return (0, len) };
        let start = start.clamp(0, len as i64) as usize;
        let end = if count < 0 { len } else { start.saturating_add(count as usize).min(len) };
        (start, end)
    }
}

fn sort(call: &mut Call<'_>) -> CommandResult {
    run(call, true)
}

fn sort_ro(call: &mut Call<'_>) -> CommandResult {
    run(call, false)
}

fn run(call: &mut Call<'_>, stores: bool) -> CommandResult {
    let mut options = Options::parse(call.args, stores)?;
    check_rights(call, &options)?;
    let (key, hash, now_ms) = (call.args.at(1), call.hash, call.now_ms);
    let hasher = call.keyspace.hasher();
    let in_script = call.session.row.is_none() && call.session.state.has(State::NO_WAIT);
    let database = database(call);
    let (mut elements, is_set) = match database.find(key, hash, now_ms) {
        Some(entry) => elements(entry, &options)?,
        None => (Vec::new(), false),
    };
    // What is stored, or a script goes on with, must not depend on the order in which a set happens to lie.
    if options.unsorted && is_set && (options.store.is_some() || in_script) {
        (options.unsorted, options.by_text, options.by) = (false, true, None);
    }
    if !options.unsorted {
        elements = sorted(database, elements, &options, (hasher, now_ms))?;
    }
    let (start, end) = options.window(elements.len());
    let wanted = elements.get(start..end).unwrap_or_default();
    let mut answers: Vec<Option<Vec<u8>>> = Vec::new();
    for element in wanted {
        if options.get.is_empty() {
            answers.push(Some(element.clone()));
        }
        for pattern in &options.get {
            answers.push(look_up(database, pattern, element, (hasher, now_ms)));
        }
    }
    match options.store {
        Some(target) => store(call, target, answers),
        None => answer(call, &answers),
    }
    Ok(())
}

/// Patterns read keys that no argument names, so they need the right to read all.
fn check_rights(call: &Call<'_>, options: &Options<'_>) -> CommandResult {
    let foreign = |pattern: &&[u8]| **pattern != *b"#";
    let option = if options.by.is_some() && !options.unsorted {
        "BY"
    } else if options.get.iter().any(foreign) {
        "GET"
    } else {
        return Ok(());
    };
    let id = table().resolve(call.args);
    let may = |user: &User| user.reads_all_keys(id, table().row(id), call.args);
    if call.session.user.as_deref().is_none_or(may) {
        return Ok(());
    }
    let text = format!("ERR {option} option of SORT denied due to insufficient ACL permissions.");
    Err(CommandError::Owned(text.into_bytes()))
}

/// The elements in the value's own order, and whether they are a set's.
fn elements(entry: Entry<'_>, options: &Options<'_>) -> Result<(Vec<Vec<u8>>, bool), CommandError> {
    let mut all = Vec::new();
    let is_set = match entry.value() {
        ValueRef::List(list) => {
            all.extend(list.iter().map(|element| element.to_vec()));
            false
        }
        ValueRef::Set(set) => {
            all.extend(set.iter().map(|member| member.to_vec()));
            true
        }
        ValueRef::SortedSet(set) => {
            set.for_each(|member, _| all.push(member.to_vec()));
            false
        }
        _ => return Err(CommandError::WrongType),
    };
    if options.unsorted && options.descending && !is_set {
        all.reverse();
    }
    Ok((all, is_set))
}

/// What an element is sorted by.
enum Weight {
    Number(f64),
    Text(Option<Vec<u8>>),
}

fn sorted(
    database: &mut Database,
    elements: Vec<Vec<u8>>,
    options: &Options<'_>,
    context: (Hasher, u64),
) -> Result<Vec<Vec<u8>>, CommandError> {
    let mut weighted = Vec::with_capacity(elements.len());
    for element in elements {
        let text = match options.by {
            Some(pattern) => look_up(database, pattern, &element, context),
            None => Some(element.clone()),
        };
        let weight = if options.by_text {
            // Without STORE, Redis compares as C compares strings.
            let whole = options.store.is_some();
            Weight::Text(text.map(|text| match whole {
                true => text,
                false => until_nul(&text, text.len()).to_vec(),
            }))
        } else {
            Weight::Number(match text {
                Some(text) => number(&text).ok_or(CommandError::Text(
                    "ERR One or more scores can't be converted into double",
                ))?,
                None => 0.0,
            })
        };
        weighted.push((weight, element));
    }
    weighted.sort_by(|(left, left_element), (right, right_element)| {
        let order = match (left, right) {
            (Weight::Number(left), Weight::Number(right)) => {
                let order = left.partial_cmp(right).unwrap_or(Ordering::Equal);
                order.then_with(|| left_element.cmp(right_element))
            }
            (Weight::Text(left), Weight::Text(right)) => left.cmp(right),
            _ => Ordering::Equal,
        };
        if options.descending { order.reverse() } else { order }
    });
    Ok(weighted.into_iter().map(|(_, element)| element).collect())
}

/// A weight as C's `strtod` reads it up to a zero byte; nothing at all is 0. Never NaN.
fn number(text: &[u8]) -> Option<f64> {
    let text = until_nul(text, text.len());
    if text.is_empty() {
        return Some(0.0);
    }
    crate::store::number::parse_double(text.trim_ascii_start())
}

/// The value that a pattern means for an element: `#` the element, else that of the key with the element for `*`, or of
/// its field behind `->`.
fn look_up(
    database: &mut Database,
    pattern: &[u8],
    element: &[u8],
    (hasher, now_ms): (Hasher, u64),
) -> Option<Vec<u8>> {
    if until_nul(pattern, pattern.len()) == b"#" {
        return Some(element.to_vec());
    }
    let star = until_nul(pattern, pattern.len()).iter().position(|byte| *byte == b'*')?;
    let (prefix, rest) = (&pattern[..star], &pattern[star + 1..]);
    let arrow = until_nul(rest, rest.len()).windows(2).position(|pair| pair == b"->");
    let arrow = arrow.filter(|at| !matches!(rest.get(at + 2), None | Some(0)));
    let (suffix, field) = match arrow {
        Some(at) => (&rest[..at], Some(&rest[at + 2..])),
        None => (rest, None),
    };
    let key = [prefix, element, suffix].concat();
    let value = database.find(&key, hasher.hash(&key), now_ms)?.value();
    match (field, value) {
        (Some(field), ValueRef::Hash(hash)) => hash.at(field).map(|value| value.to_vec()),
        (None, value) => value.text().map(|text| text.to_vec()),
        _ => None,
    }
}

fn answer(call: &mut Call<'_>, answers: &[Option<Vec<u8>>]) {
    call.reply.array(answers.len());
    for answer in answers {
        match answer {
            Some(text) => call.reply.bulk(text),
            None => call.reply.null(),
        }
    }
}

/// Makes the target a list of the answers, or nothing if there are none.
fn store(call: &mut Call<'_>, target: &[u8], answers: Vec<Option<Vec<u8>>>) {
    let hash = call.keyspace.hash(target);
    let now_ms = call.now_ms;
    let count = answers.len();
    if count == 0 {
        let deleted = database(call).delete(target, hash, now_ms);
        call.keyspace.dirty += u64::from(deleted);
    } else {
        let mut list = List::new();
        for answer in answers {
            let text = answer.unwrap_or_default();
            list.expect(text.len(), &REDIS);
            list.push(End::Back, &text, &REDIS);
        }
        database(call).insert_value(target, hash, Value::List(Box::new(list)), Expiry::Clear);
        call.keyspace.dirty += count as u64;
    }
    call.reply.integer(count as i64);
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Client, check, check_resp3};

    /// Or SORT would show what a user may not read.
    #[test]
    fn patterns_need_the_right_to_read_all_keys() {
        for (keys, denied) in [("~l", true), ("~l %R~k*", true), ("~l %R~*", false), ("~*", false)]
        {
            let mut client = Client::resp2();
            client.run("rpush l 1");
            client.run("set secret_1 x");
            client.run(&format!("acl setuser u on nopass +@all {keys}"));
            client.check(&[("auth u any", "+OK"), ("sort l get # by nosort", "*1 $1 1")]);
            for (line, option) in [("sort l get secret_*", "GET"), ("sort_ro l by secret_*", "BY")]
            {
                let text = format!(
                    "-ERR {option} option of SORT denied due to insufficient ACL permissions."
                );
                assert_eq!(client.run(line) == text, denied, "{line} {keys}");
            }
        }
    }

    #[test]
    fn orders() {
        check(&[
            ("sort none", "*0"),
            ("rpush l 3 1 20 2", ":4"),
            ("sort l", "*4 $1 1 $1 2 $1 3 $2 20"),
            ("sort l desc limit 1 2", "*2 $1 3 $1 2"),
            ("sort l alpha", "*4 $1 1 $1 2 $2 20 $1 3"),
            ("sort l by nosort desc", "*4 $1 2 $2 20 $1 1 $1 3"),
            ("sort l limit 0 -1", "*4 $1 1 $1 2 $1 3 $2 20"),
            ("sort l limit 9 1", "*0"),
            ("mset w_1 9 w_2 8 w_3 7 w_20 6 o_1 one o_2 two", "+OK"),
            ("sort l by w_* get # get o_* store s", ":8"),
            ("lrange s 0 -1", "*8 $2 20 $0  $1 3 $0  $1 2 $3 two $1 1 $3 one"),
            ("hset h_1 f 5", ":1"),
            ("sort l by h_*->f get h_*->f", "*4 $-1 $-1 $-1 $1 5"),
            ("rpush t a b", ":2"),
            ("sort t", "-ERR One or more scores can't be converted into double"),
            ("sort t by o_*", "*2 $1 a $1 b"),
            ("sort t alpha desc", "*2 $1 b $1 a"),
            ("sort_ro t alpha store x", "-ERR syntax error"),
            ("sort l limit a 1", "-ERR value is not an integer or out of range"),
            ("sort w_1", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
            ("zadd z 3 a 2 b 1 c", ":3"),
            ("sort z by nosort", "*3 $1 c $1 b $1 a"),
            ("sort z by nosort desc limit 0 1", "*1 $1 a"),
            ("sort none store l", ":0"),
            ("exists l", ":0"),
        ]);
        check_resp3(&[("rpush l 1", ":1"), ("sort l get none*", "*1 _")]);
    }
}
