//! The command `hull`: see `hull --help`.

use hull::cli::{self, Exit};

fn main() -> Exit {
    cli::run(std::env::args_os())
}
