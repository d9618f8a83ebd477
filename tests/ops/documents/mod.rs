//! The documents: every statement and command that README and docs/use show runs, and the reference names exactly what
//! the server has.

mod blocks;
mod reference;
mod run;
