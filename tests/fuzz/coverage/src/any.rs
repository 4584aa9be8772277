//! Every target in one program, which `SOCKETLEY_FUZZ_TARGET` chooses: the library is linked once.
//!
//! With `SOCKETLEY_FUZZ_SEEDS=FOLDER` it writes the seeds of the ordinary tests there, a file each, and ends.
#![no_main]
#![allow(dead_code, reason = "the ordinary run uses more of the files that are shared")]

#[path = "../../corpus.rs"]
mod corpus;
#[path = "../../restored.rs"]
mod restored;
#[path = "../../targets.rs"]
mod targets;

use std::sync::OnceLock;

fn target() -> fn(&[u8]) {
    static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();
    *TARGET.get_or_init(|| {
        let name = std::env::var("SOCKETLEY_FUZZ_TARGET").expect("SOCKETLEY_FUZZ_TARGET is set");
        if let Some(folder) = std::env::var_os("SOCKETLEY_FUZZ_SEEDS") {
            write_seeds(&name, folder.as_ref());
            std::process::exit(0);
        }
        targets::named(&name)
    })
}

fn write_seeds(name: &str, folder: &std::path::Path) {
    for (index, seed) in corpus::of(name).into_iter().chain(corpus::kept(name)).enumerate() {
        std::fs::write(folder.join(format!("seed-{index}")), seed).expect("a folder to write to");
    }
}

libfuzzer_sys::fuzz_target!(init: drop(target()), |bytes: &[u8]| target()(bytes));
