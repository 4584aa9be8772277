//! Builds LuaJIT with its check hook and links it into the binary.
//!
//! `LUAJIT_ENABLE_CHECKHOOK` lets compiled code see a hook that a signal armed; without it an endless
//! loop, once compiled, could not be stopped. `CCOPT` is a variable of LuaJIT's own Makefile: no other C dependency
//! reads it, as a global `CFLAGS` would be.

#![allow(
    unsafe_code,
    reason = "setting an environment variable for make is unsafe since edition 2024"
)]

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // SAFETY: the build script has one thread, and nothing else has read the environment yet.
    unsafe { std::env::set_var("CCOPT", "-O3 -fomit-frame-pointer -DLUAJIT_ENABLE_CHECKHOOK") };
    if let Ok(jobs) = std::env::var("CARGO_MAKEFLAGS") {
        // SAFETY: as above. Make shares cargo's job server.
        unsafe { std::env::set_var("MAKEFLAGS", jobs) };
    }
    let built = luajit_src::Build::new().lua52compat(true).debug(false).build();
    println!("cargo:rustc-link-search=native={}", built.lib_dir().display());
    println!("cargo:rustc-link-lib=static:+whole-archive=luajit");
    // LuaRocks' C modules find the Lua API in the executable.
    println!(
        "cargo:rustc-link-arg-bins=-Wl,--export-dynamic-symbol=lua_*,--export-dynamic-symbol=luaL_*"
    );
}
