//! The rows of tests/explained.txt that are about replies, and the rules that they name.
//!
//! The table says which commands may differ and why; a rule here says whether two replies differ in just that way.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use socketley::proto::resp::Value;

use crate::compare::{numbers, scalars, shape, sorted, timeless};

/// The one table of this test and of tests/redis/run.
const TABLE: &str = include_str!("../explained.txt");

/// Whether the replies to a command, ours and the judge's, differ in the way that the rule is about.
type Rule = fn(&[Vec<u8>], &Value, &Value) -> bool;

const RULES: &[(&str, Rule)] = &[
    ("same_numbers", |_, mine, theirs| numbers(scalars(mine)) == numbers(scalars(theirs))),
    ("same_numbers_unsigned_zero", |_, mine, theirs| {
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
    }),
    ("withscore_given", |command, _, _| command.len() == 4),
    ("same_members", |_, mine, theirs| sorted(mine, 1) == sorted(theirs, 1)),
    ("same_pairs", |_, mine, theirs| sorted(mine, 2) == sorted(theirs, 2)),
    ("same_parameters", |_, mine, theirs| {
        let mut mine = sorted(mine, 2);
        mine.retain(|pair| !pair.contains("\"set-max") && !pair.contains("[115, 101, 116"));
        mine == sorted(theirs, 2)
    }),
    ("foreign_cursor", |command, _, _| {
        crate::generate::cursor_index(command).is_none() && command.len() > 1
    }),
    ("text_of_integer", |_, mine, theirs| {
        let other = [Value::Bulk(b"embstr".to_vec()), Value::Bulk(b"raw".to_vec())];
        *mine == Value::Bulk(b"int".to_vec()) && other.contains(theirs)
    }),
    ("zadd_option", |command, _, _| command[2] == b"NX" || command[2] == b"XX"),
    ("checked_before_lookup", |_, mine, theirs| {
        matches!(mine, Value::Error(_)) && !mine.eq(theirs)
    }),
    ("by_leaves_order", |command, mine, theirs| {
        let by = command.iter().position(|word| word == b"BY");
        let limited = command.iter().any(|word| word == b"LIMIT");
        by.is_some() && (limited || sorted(mine, 1) == sorted(theirs, 1))
    }),
    ("unpacked_by_sort", |_, mine, theirs| {
        *mine == Value::Bulk(b"listpack".to_vec()) && *theirs == Value::Bulk(b"skiplist".to_vec())
    }),
    ("longest_wait", |command, mine, _| {
        command[2] == b"9223372036854775807" && matches!(mine, Value::Error(_))
    }),
    ("smallest_count", |command, _, _| {
        command[2..].iter().any(|word| word == b"-9223372036854775808")
    }),
    ("same_without_times", |_, mine, theirs| {
        matches!(mine, Value::Array(_) | Value::Map(_)) && timeless(mine) == timeless(theirs)
    }),
    ("last_line_of_help", |command, mine, theirs| match (mine, theirs) {
        (Value::Array(mine), Value::Array(theirs)) => {
            command.len() == 2
                && command[1].eq_ignore_ascii_case(b"help")
                && mine.len() == theirs.len()
                && mine[..mine.len() - 1] == theirs[..theirs.len() - 1]
        }
        _ => false,
    }),
    ("last_id", |command, _, _| command.iter().any(|word| word == b"+")),
    ("stream_error", |_, mine, theirs| match (mine, theirs) {
        (Value::Error(mine), Value::Error(theirs)) => {
            let (mine, theirs) = (mine.escape_ascii(), theirs.escape_ascii());
            let (mine, theirs) = (mine.to_string(), theirs.to_string());
            (mine.contains("Unbalanced") && theirs.contains("Unbalanced"))
                || mine.contains("The + ID is meaningless")
        }
        _ => false,
    }),
    ("below_deleted", |_, mine, _| match mine {
        Value::Error(text) => text.ends_with(b"current max_deleted_entry_id"),
        _ => false,
    }),
    ("own_version", |_, mine, theirs| {
        let rest = |value: &Value| {
            let mut all = scalars(value);
            all.retain(|text| !text.starts_with("Integer") && !text.starts_with("7."));
            all
        };
        rest(mine) == rest(theirs)
    }),
    ("user_named", |command, mine, theirs| {
        let named = |value: &Value| {
            let texts = scalars(value).into_iter();
            texts.map(|text| text.replace("This user has", "User has")).collect::<Vec<String>>()
        };
        let user = command.get(2).map(|name| format!("User {} has", name.escape_ascii()));
        let renamed = |text: String| match &user {
            Some(user) => text.replace(user.as_str(), "User has"),
            None => text,
        };
        named(mine).into_iter().map(renamed).collect::<Vec<String>>() == named(theirs)
    }),
    ("rules_as_given", |command, mine, theirs| {
        let told = |value: &Value| {
            let texts = scalars(value).into_iter();
            let words =
                texts.flat_map(|text| text.split(' ').map(str::to_owned).collect::<Vec<_>>());
            let is_rule =
                |word: &String| word.starts_with(['+', '-']) || word == "sanitize-payload";
            words.filter(|word| !is_rule(word)).collect::<Vec<String>>()
        };
        let named =
            |name: &str| command.get(1).is_some_and(|it| it.eq_ignore_ascii_case(name.as_bytes()));
        (named("GETUSER") || named("LIST")) && told(mine) == told(theirs)
    }),
    ("same_functions", |command, mine, theirs| {
        let all = |value: &Value| {
            let mut all = scalars(value);
            all.sort();
            all
        };
        let listed = command.get(1).is_some_and(|it| it.eq_ignore_ascii_case(b"list"));
        listed && matches!(mine, Value::Array(_)) && all(mine) == all(theirs)
    }),
    ("near_clocks", |_, mine, theirs| match (mine, theirs) {
        (Value::Integer(mine), Value::Integer(theirs)) => {
            *mine > 0 && (mine - theirs).abs() < 10_000
        }
        _ => false,
    }),
    ("same_shape", |_, mine, theirs| shape(mine) == shape(theirs)),
    ("packed_sets_and_lists", |_, mine, theirs| {
        let text = |value: &Value| match value {
            Value::Bulk(text) => text.clone(),
            _ => Vec::new(),
        };
        matches!(
            (text(mine).as_slice(), text(theirs).as_slice()),
            (b"listpack", b"hashtable" | b"quicklist") | (b"hashtable", b"listpack")
        )
    }),
];

/// A row of the table: what may differ.
struct Difference {
    /// Commands in lower case; `*` at the end stands for the rest.
    commands: Vec<&'static str>,
    explains: Rule,
}

static EXPLAINED: LazyLock<Vec<Difference>> =
    LazyLock::new(|| differences(TABLE).expect("tests/explained.txt is whole"));

/// The command that a script was given to call, or that was tried with a user's rights.
fn nested(command: &[Vec<u8>]) -> Option<&[Vec<u8>]> {
    let at = match command[0].as_slice() {
        b"EVAL" | b"EVAL_RO" | b"EVALSHA" | b"EVALSHA_RO" | b"FCALL" | b"FCALL_RO" => 3,
        b"ACL" if command.get(1).is_some_and(|word| word == b"DRYRUN") => 3,
        _ => return None,
    };
    command.get(at..).filter(|rest| !rest.is_empty())
}

/// Whether the table has a row for this difference.
pub fn is_explained(command: &[Vec<u8>], mine: &Value, theirs: &Value) -> bool {
    if nested(command).is_some_and(|inner| is_explained(inner, mine, theirs)) {
        return true;
    }
    let name = String::from_utf8_lossy(&command[0]).to_ascii_lowercase();
    EXPLAINED.iter().any(|difference| {
        difference.commands.iter().any(|pattern| is_named(&name, pattern))
            && (difference.explains)(command, mine, theirs)
    })
}

/// The rows for this test; each needs a reason and a rule, each rule a row.
fn differences(table: &'static str) -> Result<Vec<Difference>, String> {
    let mut unused: BTreeSet<&str> = RULES.iter().map(|(name, _)| *name).collect();
    let mut found = Vec::new();
    for line in table.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let columns: Vec<&str> = line.splitn(5, " | ").map(str::trim).collect();
        let &[_, reader, commands, rule, reason] = columns.as_slice() else {
            return Err(format!("five columns are needed: {line}"));
        };
        if reason.is_empty() {
            return Err(format!("no reason: {line}"));
        }
        if reader != "fuzz" {
            continue;
        }
        let Some((name, explains)) = RULES.iter().find(|(name, _)| *name == rule) else {
            return Err(format!("no rule is called {rule}: {line}"));
        };
        unused.remove(name);
        found.push(Difference {
            commands: commands.split_whitespace().collect(),
            explains: *explains,
        });
    }
    match unused.is_empty() {
        true => Ok(found),
        false => Err(format!("no row names {unused:?}")),
    }
}

fn is_named(name: &str, pattern: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

#[test]
fn the_table_is_whole() {
    let rows = differences(TABLE).map(|rows| rows.len());
    assert!(rows.as_ref().is_ok_and(|count| *count >= RULES.len()), "{rows:?}");
    let refused = |row| differences(row).err().unwrap_or_default();
    assert!(refused("newer | fuzz | get | no_such_rule | why").contains("no rule is called"));
    assert!(refused("newer | fuzz | get | same_shape | ").contains("no reason"));
    assert!(refused("newer | fuzz | get | same_shape").contains("five columns"));
    assert!(refused("newer | fuzz | get | same_shape | why").contains("no row names"));
}
