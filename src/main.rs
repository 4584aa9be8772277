//! The program: the command line, and what it needs of the rest.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::Value;
use socketley::cli::{self, DaemonOrder, Places, Problem, Program, TestCase};
use socketley::control::certificate::{self, Order};
use socketley::control::homes::Home;
use socketley::control::session::Sessions;
use socketley::control::validate::{self, World};
use socketley::control::{DaemonOptions, daemon, manager, stage};
use socketley::error::OperatorError;
use socketley::lua::{AppVm, Host, Stores, Watchdog};
use socketley::ring::clock;
use socketley::runtime::config;
use socketley::store::SharedStore;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    ExitCode::from(cli::run(arguments, &Socketley))
}

struct Socketley;

impl Program for Socketley {
    fn flag_specs(&self) -> Value {
        config::flag_specs()
    }

    fn places(&self, socket: Option<&Path>) -> Places {
        let home = Home::of_process(None, socket);
        Places { socket: home.socket, history: home.history }
    }

    fn daemon(&self, order: DaemonOrder) -> Result<u8, OperatorError> {
        let options = DaemonOptions {
            workers: order.workers,
            sqpoll: order.sqpoll,
            supervise: order.supervise,
            socket: order.socket,
            home: None,
            foreground: order.foreground,
            log_level: order.log_level,
            colour: order.colour,
        };
        daemon::run(&options, Sessions::default()).map(|()| 0)
    }

    fn check(&self, file: &Path) -> Result<Vec<Problem>, OperatorError> {
        let source = manager::source_to_check(file)?;
        let host = Host {
            worker: 0,
            stores: Rc::new(NoStores),
            seed: 0,
            watch: Watchdog::start().register(),
            on_landed: Rc::new(|_| Box::new(|_| {})),
        };
        let (loaded, _) = AppVm::load(Arc::new(source), host, clock::now());
        let problems = match loaded {
            Ok(vm) => {
                validate::check(vm.definitions(), &World::default()).err().unwrap_or_default()
            }
            Err(error) => vec![error.into()],
        };
        Ok(problems.into_iter().map(shown).collect())
    }

    fn test(&self, file: &Path, filter: Option<&str>) -> Result<Vec<TestCase>, OperatorError> {
        let cases = stage::run(file, filter, &Watchdog::start())?;
        let shown = |stage::Case { name, failure }| TestCase { name, failure };
        Ok(cases.into_iter().map(shown).collect())
    }

    fn certificate(
        &self,
        names: Vec<String>,
        folder: &Path,
        days: u64,
    ) -> Result<String, OperatorError> {
        certificate::make(&Order { names, folder, days, unix_ms: self.unix_ms() })
    }

    fn unix_ms(&self) -> u64 {
        clock::now().unix_ms
    }
}

fn shown(problem: validate::Problem) -> Problem {
    let validate::Problem { file, line, message, hint, .. } = problem;
    Problem { file, line, message, hint }
}

/// A file is checked without a daemon: no cache runs.
struct NoStores;

impl Stores for NoStores {
    fn find(&self, _: &str) -> Option<Arc<SharedStore>> {
        None
    }

    fn names(&self) -> Vec<String> {
        Vec::new()
    }
}
