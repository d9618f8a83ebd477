//! Arrow arrays of tick columns into plain vectors. Each function looks at an array's type once and then runs a loop
//! without further type tests.

mod amount;
mod flag;
mod float;
mod id;
mod render;
mod text;
mod time;
mod values;

pub(super) use amount::{Price, Quantity, amounts};
pub(super) use flag::flags;
pub(super) use id::trade_ids;
pub(super) use render::render;
pub(super) use text::{order_ids, symbols};
pub(super) use time::{time_problem, times};
pub(super) use values::{Bad, integer32, integer64, micros};
