//! Link arguments of the extension's library.

fn main() {
    // pgrx keeps what it needs to write the extension's SQL in a section that nothing refers to.
    println!("cargo::rustc-link-arg-cdylib=-Wl,--no-gc-sections");
    println!("cargo::rerun-if-changed=build.rs");
}
