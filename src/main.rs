//! The `overnight` binary: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    overnight::cli::main()
}
