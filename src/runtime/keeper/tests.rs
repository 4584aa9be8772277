//! Keepers over a disk in memory: what a crash leaves, whenever it comes.

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::ring::random::Random;
use crate::ring::sim::disk::{DiskFaults, SimDisk};
use crate::store::persistence::Persist;
use crate::store::{Session, Settings};

const FOLDER: &str = "/caches/db";

struct World {
    store: Arc<SharedStore>,
    keeper: Keeper,
    session: Session,
    now: Now,
    log: Arc<parking_lot::Mutex<Vec<String>>>,
}

impl World {
    /// A cache starts on that disk; it has loaded what is there.
    fn start(disk: &SimDisk, persist: Persist, seed: u64) -> World {
        let now = Now { monotonic_ns: 1_000_000_000, unix_ms: 1_000_000 + seed * 100_000 };
        let store = SharedStore::new(&Settings {
            name: "db".to_owned(),
            seed,
            persist,
            now_ms: now.unix_ms,
            ..Settings::default()
        });
        store.lock(0).instance.persistence.keeper = Some(Arc::new(|| {}));
        let session = store.session(now.unix_ms);
        let log = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let lines = Arc::clone(&log);
        let report = move |_, text| lines.lock().push(text);
        let keeper = Keeper::new(
            Arc::clone(&store),
            Box::new(disk.clone()),
            Path::new(FOLDER),
            Box::new(report),
        );
        let mut world = World { store, keeper, session, now, log };
        for _ in 0..10_000 {
            if world.keeper.is_keeping() || matches!(world.keeper.stage, Stage::Failed) {
                break;
            }
            world.turn();
        }
        world
    }

    fn turn(&mut self) {
        self.now.monotonic_ns += 50_000_000;
        self.now.unix_ms += 50;
        self.keeper.turn(self.now);
    }

    /// Until nothing is being written.
    fn settle(&mut self) {
        for _ in 0..500 {
            self.turn();
        }
    }

    fn run(&mut self, line: &str) -> String {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let mut out = Vec::new();
        self.store.call(&mut self.session, &words, self.now.unix_ms, &mut out);
        String::from_utf8_lossy(&out).replace("\r\n", " ").trim_end().to_owned()
    }

    fn counter(&mut self) -> u64 {
        let reply = self.run("get n");
        reply.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
    }
}

#[test]
fn a_log_survives_and_is_written_on() {
    let disk = SimDisk::new(1);
    for round in 1..4 {
        let mut world = World::start(&disk, Persist::Aof, round);
        world.settle();
        assert_eq!(world.counter(), (round - 1) * 2);
        assert!(world.run("incr n").starts_with(':'));
        world.settle();
        if round == 2 {
            assert_eq!(world.run("bgrewriteaof"), "+Background append only file rewriting started");
            world.settle();
        }
        world.run("incr n");
        world.keeper.finish(world.now);
    }
    let names: Vec<String> = disk.files().keys().map(|path| path.display().to_string()).collect();
    assert_eq!(
        names,
        [
            "/caches/db/appendonlydir/appendonly.aof.2.base.rdb",
            "/caches/db/appendonlydir/appendonly.aof.2.incr.aof",
            "/caches/db/appendonlydir/appendonly.aof.manifest",
        ]
    );
}

#[test]
fn a_snapshot_is_written_at_the_end_and_loaded() {
    let disk = SimDisk::new(1);
    let mut world = World::start(&disk, Persist::Snapshot, 1);
    world.run("set a 1");
    world.run("rpush l x y");
    world.run("set gone x px 1");
    world.settle();
    assert!(disk.files().is_empty(), "no rule is due");
    world.keeper.finish(world.now);
    let mut world = World::start(&disk, Persist::Snapshot, 2);
    assert_eq!(world.run("mget a gone"), "*2 $1 1 $-1");
    assert_eq!(world.run("lrange l 0 -1"), "*2 $1 x $1 y");
    let loaded = world.store.lock(0).instance.persistence.loaded;
    assert_eq!(loaded, (2, 1));
    let files = disk.files();
    world.keeper.finish(world.now);
    assert_eq!(disk.files(), files, "nothing has changed, so nothing is written");
}

#[test]
fn a_save_rule_saves() {
    let disk = SimDisk::new(1);
    let mut world = World::start(&disk, Persist::Snapshot, 1);
    assert_eq!(
        world.run("config set save x"),
        "-ERR CONFIG SET failed (possibly related to argument 'save') - Invalid save parameters"
    );
    world.store.lock(0).instance.config.save_rules =
        crate::store::persistence::parse_rules(b"1 2").expect("a rule");
    world.run("set a 1");
    world.settle();
    let saves = |world: &World| world.store.lock(0).instance.persistence.saves;
    assert_eq!(saves(&world), 0);
    world.run("set b 1");
    world.settle();
    assert_eq!(saves(&world), 1);
}

/// With `always`, what was safe when the power went is there afterwards, and nothing that never was: whatever operation of the disk is
/// the last, with rewrites going on, and whatever the disk makes of what wasn't synced.
#[test]
fn nothing_that_was_safe_is_lost_at_a_crash() {
    let mut whole = 0;
    for seed in 0..150_u64 {
        let mut random = Random::new(seed);
        let disk = SimDisk::new(seed);
        let (mut safe, mut sent) = (0, 0);
        for life in 0..3 {
            let mut world = World::start(&disk, Persist::Aof, seed + life);
            assert!(world.keeper.is_keeping(), "seed {seed}: {:?}", world.log.lock());
            let found = world.counter();
            assert!((safe..=sent).contains(&found), "seed {seed}: {found} of {safe}..={sent}");
            (safe, sent) = (found, found);
            world.store.lock(0).instance.config.sync = Sync::Always;
            let end =
                DiskFaults { operations_left: Some(random.below(250)), ..DiskFaults::default() };
            disk.set_faults(end);
            let mut offsets = Vec::new();
            for _ in 0..30 {
                if random.chance(300) {
                    world.run("bgrewriteaof");
                }
                for _ in 0..random.below(4) {
                    if world.run("incr n").starts_with(':') {
                        sent += 1;
                        offsets.push((world.store.feed_end(), sent));
                    }
                }
                world.turn();
                let until = world.store.safe_offset();
                if world.store.waits_for_disk() {
                    let reached = offsets.iter().filter(|(offset, _)| *offset <= until);
                    safe = reached.map(|(_, count)| *count).max().unwrap_or(safe).max(safe);
                }
            }
            whole += u64::from(disk.operations() > 0 && safe == sent);
            disk.crash();
        }
        let mut world = World::start(&disk, Persist::Aof, seed);
        assert!(world.keeper.is_keeping(), "seed {seed}: {:?}", world.log.lock());
        let found = world.counter();
        assert!((safe..=sent).contains(&found), "seed {seed}: {found} of {safe}..={sent}");
    }
    assert!(whole > 5, "some lives end with all safe: {whole}");
}

/// A snapshot is the old one or the new one, whatever operation is the last.
#[test]
fn a_crash_leaves_one_snapshot_or_the_other() {
    for end in 0..12 {
        for seed in 0..10 {
            let disk = SimDisk::new(seed);
            let mut world = World::start(&disk, Persist::Snapshot, seed);
            world.run("set v old");
            world.run("bgsave");
            world.settle();
            world.run("set v new");
            world.run("set w new");
            disk.set_faults(DiskFaults { operations_left: Some(end), ..DiskFaults::default() });
            world.run("bgsave");
            world.settle();
            disk.crash();
            let mut world = World::start(&disk, Persist::Snapshot, seed);
            assert!(world.keeper.is_keeping(), "{end}, {seed}: {:?}", world.log.lock());
            let found = world.run("mget v w");
            assert!(
                found == "*2 $3 old $-1" || found == "*2 $3 new $3 new",
                "{end}, {seed}: {found}"
            );
        }
    }
}

/// A full disk refuses writes with MISCONF, keeps what it acknowledged, and serves again when there is room.
#[test]
fn a_full_disk_refuses_writes_until_there_is_room() {
    let disk = SimDisk::new(3);
    let mut world = World::start(&disk, Persist::Aof, 1);
    world.settle();
    world.run("incr n");
    world.settle();
    disk.set_faults(DiskFaults { space_left: Some(10), ..DiskFaults::default() });
    assert_eq!(world.run("incr n"), ":2");
    world.turn();
    let refused = world.run("incr n");
    assert!(refused.starts_with("-MISCONF Errors writing to the AOF file"), "{refused}");
    assert_eq!(world.run("get n"), "$1 2");
    disk.set_faults(DiskFaults::default());
    world.settle();
    assert_eq!(world.run("incr n"), ":3");
    world.settle();
    disk.crash();
    assert_eq!(World::start(&disk, Persist::Aof, 2).counter(), 3);
}

/// After a sync that failed nobody knows what is in the file: the log is written anew, and only then is anything safe.
#[test]
fn a_failed_sync_makes_a_new_base() {
    let disk = SimDisk::new(4);
    let mut world = World::start(&disk, Persist::Aof, 1);
    world.store.lock(0).instance.config.sync = Sync::Always;
    world.settle();
    world.run("incr n");
    world.settle();
    assert_eq!(world.store.safe_offset(), world.store.feed_end());
    disk.set_faults(DiskFaults { sync_fails: true, ..DiskFaults::default() });
    world.run("incr n");
    world.turn();
    assert!(world.store.safe_offset() < world.store.feed_end());
    assert!(world.run("incr n").starts_with("-MISCONF"));
    disk.set_faults(DiskFaults::default());
    world.settle();
    world.settle();
    assert_eq!(world.store.safe_offset(), world.store.feed_end());
    assert_eq!(world.run("incr n"), ":3");
    world.settle();
    disk.crash();
    assert_eq!(World::start(&disk, Persist::Aof, 2).counter(), 3);
}

#[test]
fn a_torn_end_is_cut_and_damage_in_the_middle_stops_the_load() {
    let disk = SimDisk::new(5);
    let mut world = World::start(&disk, Persist::Aof, 1);
    world.settle();
    (0..5).for_each(|_| drop(world.run("incr n")));
    world.keeper.finish(world.now);
    let path = Path::new(FOLDER).join("appendonlydir/appendonly.aof.1.incr.aof");
    let whole = disk.files()[&path].clone();
    for cut in 0..=whole.len() {
        disk.put(&path, whole[..cut].to_vec());
        let mut world = World::start(&disk, Persist::Aof, 1);
        let found = world.counter();
        assert!(found <= 5 && (found == 5) == (cut == whole.len()), "{found} at {cut}");
        let left = disk.files()[&path].len();
        let told = world.log.lock().iter().any(|line| line.contains("cut off"));
        assert_eq!(told, left < cut, "{cut}: {:?}", world.log.lock());
    }
    // Zeroes at the end are what never reached the disk.
    disk.put(&path, [&whole[..], &[0; 4096]].concat());
    assert_eq!(World::start(&disk, Persist::Aof, 1).counter(), 5);
    assert_eq!(disk.files()[&path], whole);
    let mut damaged = whole.clone();
    let first = whole[..whole.len() / 2].iter().rposition(|byte| *byte == b'*');
    damaged[first.expect("a command begins there")] = b'x';
    disk.put(&path, damaged.clone());
    let mut world = World::start(&disk, Persist::Aof, 1);
    assert!(!world.keeper.is_keeping());
    let refused = world.run("get n");
    assert!(refused.starts_with("-MISCONF The data on disk can't be loaded"), "{refused}");
    assert!(refused.contains("at byte ") && refused.contains("redis-check-aof --fix"), "{refused}");
    world.keeper.finish(world.now);
    assert_eq!(disk.files()[&path], damaged, "nobody touches it");
}

#[test]
fn switching_the_log_on_and_off_keeps_the_data() {
    let disk = SimDisk::new(6);
    let mut world = World::start(&disk, Persist::Snapshot, 1);
    world.run("incr n");
    assert_eq!(world.run("config set appendonly yes"), "+OK");
    world.settle();
    world.run("incr n");
    world.settle();
    disk.crash();
    let mut world = World::start(&disk, Persist::Aof, 2);
    assert_eq!(world.counter(), 2);
    assert_eq!(world.run("config set appendonly no"), "+OK");
    world.run("incr n");
    world.settle();
    let is_on = world.store.lock(0).instance.feed.is_on();
    assert!(!is_on);
    world.keeper.finish(world.now);
    assert_eq!(World::start(&disk, Persist::Snapshot, 3).counter(), 3);
}

#[test]
fn what_a_client_wants_loaded_again_comes_from_the_files() {
    use crate::store::clients::Client;
    let disk = SimDisk::new(7);
    let mut world = World::start(&disk, Persist::Snapshot, 1);
    let address = "127.0.0.1:1".to_owned();
    let client = |connection| Client { connection, address: address.clone(), ..Client::default() };
    let ask = |world: &mut World, line: &str| {
        let other = world.store.lock(0).connect(client(1));
        let own = std::mem::replace(&mut world.session, other);
        let reply = world.run(line);
        world.session = own;
        assert_eq!(reply, "", "it waits");
        assert!(world.run("get n").starts_with("-LOADING"), "{line}");
        world.settle();
    };
    world.run("incr n");
    world.run("hset h f v");
    ask(&mut world, "debug reload");
    assert_eq!(world.run("mget n x"), "*2 $1 1 $-1");
    world.run("incr n");
    world.run("set x 1");
    ask(&mut world, "debug reload nosave noflush merge");
    assert_eq!(
        world.run("mget n x"),
        "*2 $1 1 $1 1",
        "the file's n, and what it doesn't have stays"
    );
    ask(&mut world, "debug reload nosave noflush");
    assert!(world.log.lock().iter().any(|line| line.contains("is there already")));
    assert_eq!(world.run("dbsize"), ":3");
    ask(&mut world, "debug loadaof");
    assert_eq!(world.run("dbsize"), ":3", "there is no log, so nothing goes");
    assert_eq!(world.run("config set appendonly yes"), "+OK");
    world.settle();
    world.run("incr n");
    ask(&mut world, "debug loadaof");
    assert_eq!(world.counter(), 2);
    world.run("incr n");
    world.settle();
    disk.crash();
    assert_eq!(World::start(&disk, Persist::Aof, 2).counter(), 3, "the log goes on");
}
