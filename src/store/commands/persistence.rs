//! SAVE, BGSAVE, BGREWRITEAOF, LASTSAVE: what clients want of the disk. Who keeps the store there does it.

use super::{Call, Command, CommandResult, Flags, Keys};
use crate::store::CommandError;
use crate::store::blocked::Waiting;

const ADMIN: Flags = Flags::ADMIN.and(Flags::NOSCRIPT);
const STATUS: Flags = Flags::ADMIN.and(Flags::FAST).and(Flags::LOADING).and(Flags::STALE);

/// This file's rows.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    row("bgrewriteaof", 1, ADMIN, "Writes the log of commands anew", bgrewriteaof),
    row("bgsave", -1, ADMIN, "Saves the data in the background", bgsave),
    row("lastsave", 1, STATUS, "Returns when the data was last saved", lastsave),
    row("save", 1, ADMIN.and(Flags::NO_MULTI), "Saves the data", save),
];

const fn row(
    name: &'static str,
    arity: i16,
    flags: Flags,
    summary: &'static str,
    run: fn(&mut Call<'_>) -> CommandResult,
) -> Command {
    let (keys, since) = (Keys::NONE, "1.0.0");
    Command { name, arity, flags, keys, group: "server", summary, since, run, subcommands: &[] }
}

/// Refuses what nobody would do.
fn check_kept(call: &Call<'_>) -> CommandResult {
    if call.instance.persistence.is_kept() {
        return Ok(());
    }
    let name = &call.instance.name;
    let text = format!(
        "ERR this cache isn't kept on disk: socketley edit {name} --persist snapshot (or aof), then socketley restart {name}"
    );
    Err(CommandError::Owned(text.into_bytes()))
}

const BUSY: CommandError = CommandError::Text("ERR Background save already in progress");

/// It waits until the file is there.
fn save(call: &mut Call<'_>) -> CommandResult {
    check_kept(call)?;
    if call.instance.persistence.saving_since_ms.is_some() {
        return Err(BUSY);
    }
    let (keys, kind, timeout_ms, again, or_gone) = (call.args.first(0), None, None, None, false);
    call.instance.persistence.save_wanted = true;
    call.instance.persistence.call();
    call.wait(Waiting {
        keys,
        kind,
        or_gone,
        timeout_ms,
        at_once: |reply| reply.simple("Background saving started"),
        too_late: |reply| reply.simple("Background saving started"),
        again,
    })?;
    if let Some(ticket) = call.session.wait {
        call.instance.persistence.savers.push(ticket.number);
    }
    Ok(())
}

fn bgsave(call: &mut Call<'_>) -> CommandResult {
    let schedules = match call.args.get(1) {
        None => false,
        Some(word) if call.args.len() == 2 && word.eq_ignore_ascii_case(b"schedule") => true,
        Some(_) => return Err(CommandError::Syntax),
    };
    check_kept(call)?;
    let persistence = &mut call.instance.persistence;
    if persistence.saving_since_ms.is_some() || persistence.save_wanted {
        return Err(BUSY);
    }
    if persistence.rewriting_since_ms.is_some() && !schedules {
        return Err(CommandError::Text(
            "ERR Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE SCHEDULE in order to schedule \
             a BGSAVE whenever possible.",
        ));
    }
    let later = persistence.rewriting_since_ms.is_some();
    persistence.save_wanted = true;
    persistence.call();
    call.reply.simple(if later {
        "Background saving scheduled"
    } else {
        "Background saving started"
    });
    Ok(())
}

/// With the log off it becomes the data as they are then, and isn't continued, as in Redis.
fn bgrewriteaof(call: &mut Call<'_>) -> CommandResult {
    check_kept(call)?;
    let persistence = &mut call.instance.persistence;
    if persistence.rewriting_since_ms.is_some() {
        return Err(CommandError::Text(
            "ERR Background append only file rewriting already in progress",
        ));
    }
    let later = persistence.saving_since_ms.is_some();
    persistence.rewrite_wanted = true;
    persistence.call();
    call.reply.simple(if later {
        "Background append only file rewriting scheduled"
    } else {
        "Background append only file rewriting started"
    });
    Ok(())
}

/// Redis answers the start's time when nothing was saved.
fn lastsave(call: &mut Call<'_>) -> CommandResult {
    let saved_ms = call.instance.persistence.last_save_ms;
    call.reply.integer((saved_ms.unwrap_or(call.instance.started_ms) / 1000) as i64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::store::commands::testing::{Client, check};
    use crate::store::crowd::Crowd;
    use crate::store::persistence::Saved;

    #[test]
    fn a_store_that_nobody_keeps_says_so() {
        let refusal = "-ERR this cache isn't kept on disk: socketley edit  --persist snapshot (or aof), then socketley \
            restart ";
        for line in ["SAVE", "BGSAVE", "BGREWRITEAOF"] {
            assert_eq!(Client::resp2().run(line), refusal.trim_end(), "{line}");
        }
        check(&[("LASTSAVE", ":0"), ("BGSAVE now", "-ERR syntax error")]);
    }

    /// SAVE answers when the file is there; BGSAVE at once.
    #[test]
    fn saves_are_wished_and_answered() {
        let mut crowd = Crowd::new(2);
        crowd.store.instance.persistence.keeper = Some(Arc::new(|| {}));
        crowd.check(&[
            ("a SAVE", "", ""),
            ("b BGSAVE", "-ERR Background save already in progress", ""),
        ]);
        crowd.store.save_begins(false, 1);
        crowd.check(&[("b SAVE", "-ERR Background save already in progress", "")]);
        let saved = Saved { dirty: 0, took_ms: 5, extra_bytes: 0 };
        crowd.store.save_ends(false, Ok(saved), 7_000);
        assert_eq!(crowd.heard(), ["a: +OK"]);
        crowd.check(&[
            ("b LASTSAVE", ":7", ""),
            ("b BGSAVE", "+Background saving started", ""),
            ("b BGREWRITEAOF", "+Background append only file rewriting started", ""),
        ]);
        crowd.store.save_begins(false, 1);
        crowd.store.save_ends(false, Err("no space".to_owned()), 8_000);
        let misconf = "-MISCONF Redis is configured to save RDB snapshots";
        assert!(crowd.run(1, "set k v").starts_with(misconf));
        crowd.check(&[("b get k", "$-1", ""), ("b LASTSAVE", ":7", "")]);
    }
}
