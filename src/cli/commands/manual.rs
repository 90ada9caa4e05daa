//! `wscast completions` and `wscast man`: texts for shells and for man, generated from the flags.

use clap::builder::PossibleValuesParser;
use clap::{Arg, Command};
use clap_complete::Shell;

/// Print the completions of a shell. Bash reads them from the file wscast in
/// ~/.local/share/bash-completion/completions, zsh from the file _wscast in a folder of its fpath, fish from the file
/// wscast.fish in ~/.config/fish/completions
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct CompletionsCommand {
    /// bash, zsh, fish, elvish or powershell
    #[arg(value_name = "SHELL", value_parser = shell)]
    shell: Shell,
}

/// Print the manual page of the program, or of one command. Read it by `wscast man | man -l -`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ManCommand {
    /// The command, such as sub or token check; without it the page is that of the program
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
}

fn shell(text: &str) -> Result<Shell, String> {
    let shell = text.parse();
    shell.map_err(|_| "write bash, zsh, fish, elvish or powershell".to_owned())
}

impl CompletionsCommand {
    /// Returns the script. `whole` is the command line of the whole program.
    pub(in crate::cli) fn text(&self, whole: Command) -> String {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut complete(whole), "wscast", &mut script);
        String::from_utf8_lossy(&script).into_owned()
    }
}

impl ManCommand {
    /// Returns the page in roff. `whole` is the command line of the whole program. An `Err` is one line.
    pub(in crate::cli) fn text(&self, whole: Command) -> Result<String, String> {
        let mut whole = complete(whole);
        whole.build();
        let mut command = &whole;
        for name in &self.command {
            let found = command.find_subcommand(name);
            command = found.ok_or_else(|| {
                let name = self.command.join(" ");
                format!("man: there is no command {name:?}; `wscast -h` lists them")
            })?;
        }
        let mut page = Vec::new();
        let rendered = clap_mangen::Man::new(command.clone()).render(&mut page);
        rendered.map_err(|why| format!("man: {why}"))?;
        Ok(String::from_utf8_lossy(&page).into_owned())
    }
}

/// Returns the command line with each flag at the commands that take it: those of the server after `serve` too, those of
/// keys after `token`. The parser keeps them in one place. Words that a command takes are listed, for the completions.
fn complete(whole: Command) -> Command {
    let server: Vec<Arg> = whole.get_arguments().cloned().collect();
    let of_server = server.iter().map(|arg| arg.clone().global(false));
    let of_server: Vec<Arg> = of_server.collect();
    let names = whole
        .get_subcommands()
        .map(|command| command.get_name().to_owned());
    let names: Vec<String> = names.collect();
    let keys = server.iter().filter(|arg| arg.is_global_set());
    let keys: Vec<Arg> = keys.cloned().collect();
    whole
        .mut_args(|arg| arg.global(false))
        .mut_subcommand("serve", |serve| serve.args(of_server))
        .mut_subcommand("token", |token| token.args(keys))
        .mut_subcommand("man", |man| {
            man.mut_arg("command", |arg| {
                arg.value_parser(PossibleValuesParser::new(names))
            })
        })
        .mut_subcommand("completions", |completions| {
            completions.mut_arg("shell", |arg| arg.value_parser(clap::value_parser!(Shell)))
        })
}
