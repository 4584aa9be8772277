//! The store against a real redis-server: random commands on few keys, every reply compared, in RESP2 and RESP3.
//!
//! The seed is printed with every difference. `SOCKETLEY_DIFFERENTIAL_SEED` repeats a run, `SOCKETLEY_DIFFERENTIAL_COMMANDS`
//! makes it longer. Without redis-server the test says that it was skipped; with `SOCKETLEY_JUDGES=required` it fails.

mod compare;
mod explained;
mod generate;
mod judge;
mod payloads;
mod propagation;
mod template;
mod vocabulary;

use generate::Generator;
use judge::{Judge, Ours};

/// Commands of one run in the ordinary test.
const COMMANDS: usize = 20_000;
/// The first differences are enough to see what is wrong.
const SHOWN: usize = 40;

#[test]
fn replies_are_those_of_redis() {
    let Some(mut judge) = Judge::start() else { return };
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("SOCKETLEY_DIFFERENTIAL_SEED").unwrap_or(20_261_122);
    let commands =
        number("SOCKETLEY_DIFFERENTIAL_COMMANDS").map_or(COMMANDS, |count| count as usize);
    let mut ours = Ours::new(seed);
    let mut generator = Generator::new(seed, &|name| ours.knows(name));
    println!("seed {seed}, {commands} commands of {} kinds", generator.kinds());
    if !generator.skipped.is_empty() {
        println!("not in the table: {}", generator.skipped.join(" "));
    }
    let mut differences = Vec::new();
    let mut recent: Vec<String> = Vec::new();
    let mut queued = Vec::new();
    for index in 0..commands {
        if index == commands / 2 {
            queued.clear();
            exchange(&mut ours, &mut judge, &[b"DISCARD".to_vec()]);
            exchange(&mut ours, &mut judge, &[b"HELLO".to_vec(), b"3".to_vec()]);
        }
        let command = generator.next();
        recent.push(show(&command));
        if let Err(difference) = step(&mut ours, &mut judge, &command, &mut queued) {
            let before = recent[recent.len().saturating_sub(12)..].join("\n    ");
            differences.push(format!("{difference}\n  after\n    {before}"));
            recent.clear();
            queued.clear();
            exchange(&mut ours, &mut judge, &[b"DISCARD".to_vec()]);
            exchange(&mut ours, &mut judge, &words("ACL DELUSER u1 u2"));
            exchange(&mut ours, &mut judge, &words("FUNCTION FLUSH"));
            ours.flush();
            judge.run(&[b"FLUSHALL".to_vec()]);
        }
        if differences.len() == SHOWN {
            break;
        }
    }
    assert!(
        differences.is_empty(),
        "{} differences, seed {seed}:\n\n{}",
        differences.len(),
        differences.join("\n\n")
    );
}

/// Runs one command on both sides and compares; some commands choose by chance, so the judge is made to follow.
fn step(
    ours: &mut Ours,
    judge: &mut Judge,
    command: &[Vec<u8>],
    queued: &mut Vec<Vec<Vec<u8>>>,
) -> Result<(), String> {
    if let Some(cursor_at) = generate::cursor_index(command) {
        return scan(ours, judge, command, cursor_at);
    }
    let mine = ours.run(command);
    let theirs = match compare::follow(command, &mine) {
        Some(instead) => {
            judge.run(&instead);
            return Ok(());
        }
        None => judge.run(command),
    };
    for instead in compare::consumers(command, &mine) {
        judge.run(&instead);
    }
    let result = match command[0].as_slice() {
        b"EXEC" => compare::same_transaction(queued, &mine, &theirs),
        _ => compare::same(command, &mine, &theirs),
    };
    match (command[0].as_slice(), mine.as_slice()) {
        (_, b"+QUEUED\r\n") => queued.push(command.to_vec()),
        (b"EXEC", _) | (b"DISCARD" | b"MULTI", b"+OK\r\n") => queued.clear(),
        _ => {}
    }
    result
}

/// Walks a whole scan on both sides; order and cursors are the servers' own affair.
fn scan(
    ours: &mut Ours,
    judge: &mut Judge,
    command: &[Vec<u8>],
    cursor_at: usize,
) -> Result<(), String> {
    let mine = walk(command, cursor_at, &mut |step| ours.run(step));
    let theirs = walk(command, cursor_at, &mut |step| judge.run(step));
    if mine == theirs {
        return Ok(());
    }
    Err(format!("{}\n  ours   {mine:?}\n  theirs {theirs:?}", show(command)))
}

/// The sorted elements of all replies, or the first reply that isn't a page.
fn walk(
    command: &[Vec<u8>],
    cursor_at: usize,
    run: &mut dyn FnMut(&[Vec<u8>]) -> Vec<u8>,
) -> Result<Vec<String>, String> {
    let mut command = command.to_vec();
    let mut elements = Vec::new();
    for _ in 0..10_000 {
        let reply = run(&command);
        let Some((cursor, page)) = compare::page(&reply) else {
            return Err(reply.escape_ascii().to_string());
        };
        elements.extend(compare::elements(&command, page));
        if cursor == b"0" {
            elements.sort();
            elements.dedup();
            return Ok(elements);
        }
        command[cursor_at] = cursor;
    }
    Err("the scan doesn't end".to_owned())
}

fn words(line: &str) -> Vec<Vec<u8>> {
    line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

fn exchange(ours: &mut Ours, judge: &mut Judge, command: &[Vec<u8>]) {
    ours.run(command);
    judge.run(command);
}

fn show(command: &[Vec<u8>]) -> String {
    let words: Vec<String> = command
        .iter()
        .map(|word| match word.len() {
            0 => "\"\"".to_owned(),
            1..=60 => word.escape_ascii().to_string(),
            len => format!("<{len} bytes>"),
        })
        .collect();
    words.join(" ")
}
