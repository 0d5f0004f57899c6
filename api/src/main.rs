//! The program `amends`: the server, and the tools of those who look after it.
//!
//! Exit codes: 0 done, 1 refused or failed, 2 used wrongly or, for a check, not checked.

mod cli;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    cli::run().await
}
