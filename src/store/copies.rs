//! WAIT and WAITAOF: clients that wait until replicas, or this machine's disk, have what they wrote.
//!
//! A session knows how far the feed was behind its last write ([`Session::written`]). Replicas are asked to say how far they
//! are by a `REPLCONF GETACK *` at the end of the hold. When one has said so, or more is on disk, the waiting commands run
//! again at the end of that hold; when their time is up they run a last time and say what they have got.
//! Must not know: sockets, files.

use std::collections::BTreeSet;

use super::blocked::{Waiting, rerun};
use super::call::{Call, CommandError, CommandResult};
use super::commands::blocking::milliseconds;
use super::instance::Instance;
use super::number::parse_integer;
use super::{Reply, Session, Store};

/// What [`Copies::safe_offset`] is while there is no append log.
pub(super) const NO_LOG: u64 = u64::MAX;

/// Who waits for copies, and what is known of them.
#[derive(Debug)]
pub struct Copies {
    /// Numbers of waits.
    waits: BTreeSet<u64>,
    /// Something has been acknowledged or come to disk since the waiting commands last ran.
    news: bool,
    /// Replicas are to be asked.
    asks: bool,
    /// All of the feed before it is in this store's append log, on disk; [`NO_LOG`] if there is none.
    safe_offset: u64,
}

impl Default for Copies {
    fn default() -> Copies {
        Copies { waits: BTreeSet::new(), news: false, asks: false, safe_offset: NO_LOG }
    }
}

impl Copies {
    /// Whether a client waits.
    pub fn are_awaited(&self) -> bool {
        !self.waits.is_empty()
    }

    /// Whether that wait is for copies.
    pub fn awaits(&self, number: u64) -> bool {
        self.waits.contains(&number)
    }

    /// The numbers of waits for copies.
    pub fn waiting(&self) -> impl Iterator<Item = u64> {
        self.waits.iter().copied()
    }

    /// A wait has ended.
    pub fn forget(&mut self, number: u64) {
        self.waits.remove(&number);
    }

    /// The waiting commands are to run again.
    pub fn note_news(&mut self) {
        self.news = !self.waits.is_empty();
    }

    /// Says what is on disk.
    #[inline]
    pub fn note_safe(&mut self, offset: u64) {
        if self.safe_offset != offset {
            self.safe_offset = offset;
            self.note_news();
        }
    }

    /// All of the feed before it is on disk, if there is an append log.
    pub fn safe_offset(&self) -> Option<u64> {
        Some(self.safe_offset).filter(|offset| *offset != NO_LOG)
    }
}

impl Instance {
    /// Replicas that have what a session wrote; in their memory, and in their append logs.
    fn copies_of(&self, session: &Session) -> (i64, i64) {
        let count = |has: fn(&super::replicas::Replica) -> u64| {
            self.replicas.online().filter(|replica| has(replica) >= session.written).count() as i64
        };
        (count(|replica| replica.acknowledged), count(|replica| replica.saved))
    }

    /// The same of this store's own append log: 1 or 0.
    fn own_copy_of(&self, session: &Session) -> i64 {
        i64::from(self.copies.safe_offset().is_some_and(|offset| offset >= session.written))
    }
}

/// `WAIT numreplicas timeout`: how many replicas have the client's writes.
pub(super) fn wait(call: &mut Call<'_>) -> CommandResult {
    const REPLICA: &str = "ERR WAIT cannot be used with replica instances. Please also note that writes to replicas are \
                           just local and are not propagated.";
    if call.instance.replication.upstream().is_some() {
        return Err(CommandError::Text(REPLICA));
    }
    let wanted = parse_integer(call.args.at(1)).ok_or(CommandError::NotInteger)?;
    let timeout_ms = milliseconds(call.args.at(2))?;
    let (count, _) = call.instance.copies_of(call.session);
    if count < wanted && call.waitable().is_some() {
        return wait_for_copies(call, timeout_ms);
    }
    call.reply.integer(count);
    Ok(())
}

/// `WAITAOF numlocal numreplicas timeout`: whether this machine's disk has the client's writes, and how many replicas' do.
pub(super) fn waitaof(call: &mut Call<'_>) -> CommandResult {
    const REPLICA: &str = "ERR WAITAOF cannot be used with replica instances. Please also note that writes to replicas \
                           are just local and are not propagated.";
    const NO_LOG: &str =
        "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.";
    const LOCAL: &str = "ERR value is out of range, must be between 0 and 1";
    const REPLICAS: &str = "ERR value is out of range, must be positive";
    if call.instance.replication.upstream().is_some() {
        return Err(CommandError::Text(REPLICA));
    }
    let local = parse_integer(call.args.at(1)).filter(|local| (0..=1).contains(local));
    let local = local.ok_or(CommandError::Text(LOCAL))?;
    let replicas = parse_integer(call.args.at(2)).filter(|replicas| *replicas >= 0);
    let replicas = replicas.ok_or(CommandError::Text(REPLICAS))?;
    let timeout_ms = milliseconds(call.args.at(3))?;
    if local > 0 && !(call.instance.config.append_only && call.instance.persistence.is_kept()) {
        return Err(CommandError::Text(NO_LOG));
    }
    let own = call.instance.own_copy_of(call.session);
    let (_, saved) = call.instance.copies_of(call.session);
    if (own < local || saved < replicas) && call.waitable().is_some() {
        return wait_for_copies(call, timeout_ms);
    }
    call.reply.array(2);
    call.reply.integer(own);
    call.reply.integer(saved);
    Ok(())
}

fn wait_for_copies(call: &mut Call<'_>, timeout_ms: Option<u64>) -> CommandResult {
    let keys = call.args.first(0);
    // Neither is used: where nothing may wait the command answers by itself, and it runs again when its time is up.
    let (at_once, too_late) = (|_: &mut Reply<'_>| {}, |_: &mut Reply<'_>| {});
    let (kind, or_gone, again) = (None, false, None);
    call.wait(Waiting { keys, kind, or_gone, timeout_ms, at_once, too_late, again })?;
    if let Some(ticket) = call.session.wait {
        call.instance.copies.waits.insert(ticket.number);
        call.instance.copies.asks = true;
    }
    Ok(())
}

impl Store {
    /// At the end of a hold: asks the replicas, and runs the commands again that wait for what is new.
    pub(super) fn look_at_copies(&mut self) {
        let Store { keyspace, instance, now_ms, .. } = self;
        if instance.copies.asks && !instance.feed.is_open() {
            instance.copies.asks = false;
            if !instance.replicas.is_empty() {
                instance.feed.ask_for_acknowledgements();
            }
        }
        if std::mem::take(&mut instance.copies.news) {
            let numbers: Vec<u64> = instance.copies.waits.iter().copied().collect();
            for number in numbers {
                rerun(keyspace, instance, *now_ms, number);
            }
        }
    }

    /// Whether there is something of that to do.
    #[inline]
    pub(super) fn has_news_of_copies(&self) -> bool {
        self.instance.copies.news || self.instance.copies.asks
    }
}

#[cfg(test)]
mod tests {
    use crate::store::crowd::Crowd;

    /// `b` stands for a replica that gets changes.
    fn with_a_replica() -> Crowd {
        let mut crowd = Crowd::new(3);
        crowd.store.instance.feed.replicate();
        let Crowd { store, .. } = &mut crowd;
        store.instance.look_for_observers(&mut store.keyspace);
        let replica = crowd.store.instance.replicas.of(&crowd.sessions[1]).expect("it has a row");
        replica.from = Some(0);
        crowd
    }

    /// WAIT counted nobody, and with a replica it waited for ever.
    #[test]
    fn wait_ends_when_a_replica_has_what_was_written() {
        let mut crowd = with_a_replica();
        crowd.check(&[("a set k v", "+OK", ""), ("a wait 1 0", "", "")]);
        let written = crowd.sessions[0].written;
        assert!(written > 0, "the write has its place in the feed");
        crowd.check(&[
            (&format!("b replconf ack {}", written - 1), "", ""),
            (&format!("b replconf ack {written}"), "", "a: :1"),
            ("a wait 1 0", ":1", ""),
            ("a wait 0 0", ":1", ""),
            ("c wait 1 0", ":1", ""),
        ]);
    }

    #[test]
    fn wait_says_what_it_got_when_its_time_is_up() {
        let mut crowd = with_a_replica();
        crowd.check(&[("a set k v", "+OK", ""), ("a wait 2 100", "", "")]);
        let ack = format!("b replconf ack {}", crowd.sessions[0].written);
        crowd.check(&[(&ack, "", ""), ("+101", "", "a: :1")]);
        crowd.check(&[
            ("a wait 2 0", "", ""),
            ("c client unblock 1 timeout", ":1", "a: :1"),
            ("a multi", "+OK", ""),
            ("a wait 2 0", "+QUEUED", ""),
            ("a exec", "*1 :1", ""),
            ("a wait x 0", "-ERR value is not an integer or out of range", ""),
            ("a wait 1 -1", "-ERR timeout is negative", ""),
        ]);
    }

    #[test]
    fn waitaof_counts_the_disks() {
        let mut crowd = with_a_replica();
        crowd.check(&[
            ("a set k v", "+OK", ""),
            ("a waitaof 0 0 0", "*2 :0 :0", ""),
            ("a waitaof 2 0 0", "-ERR value is out of range, must be between 0 and 1", ""),
            (
                "a waitaof 1 0 0",
                "-ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.",
                "",
            ),
            ("a waitaof 0 1 0", "", ""),
        ]);
        let written = crowd.sessions[0].written;
        crowd.check(&[
            (&format!("b replconf ack {written}"), "", ""),
            (&format!("b replconf ack {written} fack {written}"), "", "a: *2 :0 :1"),
        ]);
    }
}
