//! `everup examples`.

use super::told::{Outcome, say};
use crate::exit::Exit;

pub(super) fn examples() -> Outcome {
    say(TEXT);
    Ok(Exit::Ok)
}

const TEXT: &str = "\
Start
  everup start app.js                     a script, by the interpreter of its extension
  everup start app.js -i max              a worker for each CPU, behind one port
  everup start app.js -- --port 3000      arguments of the app
  everup start \"npm run serve\" -n web     a line of the shell
  everup start ecosystem.config.js        all apps of a file; --only web,api
  everup start server.py -n api           any language

Change
  everup reload web                       new workers beside the old ones, no request is lost
  everup restart web --update-env         with the variables of this shell
  everup scale web +2                     more workers
  everup plan                             what is different from the file; then: everup apply

Look
  everup list                             what runs
  everup describe web                     everything about one app
  everup logs web --lines 100             what it writes
  everup why web                          why workers ended
  everup doctor                           what is wrong with this machine

Boot
  everup startup                          started with the machine
";
