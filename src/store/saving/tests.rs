//! Pictures of one moment while commands of all sorts go on.

use super::super::commands::testing::Client;
use super::*;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

type Shown = Arc<Mutex<BTreeMap<(u8, Vec<u8>), Vec<u8>>>>;

/// Keeps the values of strings.
struct Collect(Shown);

impl Sink for Collect {
    fn entry(&mut self, database: u8, entry: Entry<'_>) {
        let value = super::super::rdb::dump(entry.value());
        let before =
            self.0.lock().expect("nobody panics").insert((database, entry.key().to_vec()), value);
        assert!(before.is_none(), "{:?} is shown twice", entry.key());
    }

    fn finish(&mut self) {}

    fn pending(&self) -> usize {
        0
    }

    fn take(&mut self) -> Vec<u8> {
        Vec::new()
    }
}

fn picture(client: &Client) -> BTreeMap<(u8, Vec<u8>), Vec<u8>> {
    let mut all = BTreeMap::new();
    for (number, database) in (0..).zip(client.store.keyspace.databases()) {
        database.scan(0, usize::MAX, |entry| {
            all.insert((number, entry.key().to_vec()), super::super::rdb::dump(entry.value()));
        });
    }
    all
}

/// Whatever is written meanwhile, the picture is that of the moment at which it began.
#[test]
fn the_picture_is_of_one_moment() {
    for seed in 0..20_u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut below = |bound: u64| {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (state >> 33) % bound
        };
        let mut client = Client::resp2();
        for key in 0..below(3000) {
            client.run(&format!("select {}", key % 3));
            client.run(&format!("set k{key} v{key}"));
            if key % 5 == 0 {
                client.run(&format!("rpush l{key} a b"));
            }
        }
        let expected = picture(&client);
        let shown = Shown::default();
        client.store.begin_saving(Box::new(Collect(Arc::clone(&shown))));
        loop {
            for _ in 0..below(40) {
                let (key, other) = (below(3000), below(3000));
                let line = match below(12) {
                    0 => format!("select {}", below(3)),
                    1 => format!("del k{key} k{other}"),
                    2 => format!("rename k{key} k{other}"),
                    3 => format!("copy k{key} k{other} db {} replace", below(3)),
                    4 => format!("move k{key} {}", below(3)),
                    5 => format!("lmove l{key} l{other} left right"),
                    6 => format!("append k{key} more"),
                    7 => format!("set new{key} x"),
                    8 => format!("sort l{key} alpha store k{other}"),
                    9 => format!("lmpop 2 l{key} l{other} left count 2"),
                    10 => format!("mset k{key} 1 new{other} 2"),
                    _ => format!("rpush l{key} c"),
                };
                client.run(&line);
            }
            match client.store.save_step(1 + below(50) as usize, usize::MAX) {
                Progress::More => {}
                Progress::Done => break,
                Progress::Ended(name) => panic!("{name} ended it"),
            }
        }
        client.store.end_saving();
        assert_eq!(*shown.lock().expect("nobody panics"), expected, "seed {seed}");
    }
}

#[test]
fn what_takes_all_keys_away_ends_the_picture() {
    for line in ["flushall", "flushdb", "swapdb 0 1"] {
        let mut client = Client::resp2();
        client.run("set k v");
        client.store.begin_saving(Box::new(Collect(Shown::default())));
        assert!(client.store.instance.attention.any(Attention::SAVING));
        client.run(line);
        let name = line.split(' ').next().expect("a name");
        assert_eq!(client.store.save_step(10, 10), Progress::Ended(name), "{line}");
        client.store.end_saving();
        client.run("set k v");
        assert!(client.store.instance.attention.is_empty());
    }
}
