"""``gemstone completion``: the script that makes a shell complete the command, and its answers.

A script sends the line up to the cursor to ``gemstone completion SHELL --answer LINE``. The answer
is a line ``words``, ``file`` or ``dir``; after ``words``, a line for each word that may stand at
the cursor: the word, a tab, what it means. For ``file`` and ``dir`` the shell completes a path.

click's own scripts are not used. They cut descriptions at a comma (fish), break words at a colon
(bash), fail where completion is loaded later (zsh), and show the errors of a line that is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator

import click
from click.shell_completion import ShellComplete, split_arg_string

__all__ = ["command"]

# COMP_LINE, because COMP_WORDS is broken at each colon and equals sign. What bash completes is the
# part after the last of these, so that the part before is taken from the answers.
# Bash before 4.4 has no nosort, and before 4.0 no compopt: there words are sorted, and no paths.
_BASH = r"""
_gemstone_completion() {
    local line=${COMP_LINE:0:COMP_POINT} kind value help
    local word=${line##*[[:space:]]}
    local before=${word%"${word##*[$COMP_WORDBREAKS]}"}
    COMPREPLY=()
    {
        read -r kind
        while IFS=$'\t' read -r value help; do
            COMPREPLY+=("${value#"$before"}")
        done
    } < <("${1/#\~/$HOME}" completion bash --answer "$line" 2>/dev/null)
    case $kind in
        file) compopt -o default ;;
        dir) compopt -o dirnames ;;
    esac 2>/dev/null
}
for _gemstone_name in gemstone gemstone-sync; do
    complete -o nosort -F _gemstone_completion "$_gemstone_name" 2>/dev/null ||
        complete -F _gemstone_completion "$_gemstone_name"
done
unset _gemstone_name
"""

# Where compinit has not run yet, the first prompt is waited for: a compinit that runs later forgets
# what was defined before.
_ZSH = r"""
_gemstone_completion() {
    local kind value help
    local -a found
    ${(Q)~words[1]} completion zsh --answer "${(j: :)words[1,CURRENT-1]} $PREFIX" 2>/dev/null | {
        read -r kind
        while IFS=$'\t' read -r value help; do
            found+=("${value//:/\\:}${help:+:$help}")
        done
    }
    case $kind in
        file) compset -P '--*='; _files ;;
        dir) compset -P '--*='; _files -/ ;;
        *) _describe -V gemstone found ;;
    esac
}
_gemstone_register() {
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i }
    compdef _gemstone_completion gemstone gemstone-sync
    add-zsh-hook -d precmd _gemstone_register
}
autoload -Uz add-zsh-hook
if (( $+functions[compdef] )); then
    _gemstone_register
else
    add-zsh-hook precmd _gemstone_register
fi
"""

_FISH = r"""
function _gemstone_completion
    set -l program (string replace -r '^~' $HOME -- (commandline -opc)[1])
    set -l line (commandline -cp | string collect)
    set -l answer (env $program completion fish --answer $line 2>/dev/null)
    set -l option (string match -r -- '^--[^=]*=' (commandline -ct))
    set -l path (string replace -r -- '^--[^=]*=' '' (commandline -ct))
    switch "$answer[1]"
        case file
            string join -- \n "$option"(__fish_complete_path $path)
        case dir
            string join -- \n "$option"(__fish_complete_directories $path)
        case words
            string join -- \n $answer[2..]
    end
end
for name in gemstone gemstone-sync
    complete --no-files --keep-order --command $name --arguments "(_gemstone_completion)"
end
"""

_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


@click.command("completion")
@click.argument("shell", type=click.Choice(list(_SCRIPTS)))
@click.option("--answer", metavar="LINE", hidden=True, help="Answer the script of SHELL.")
@click.pass_context
def command(ctx: click.Context, shell: str, answer: str | None) -> None:
    """Print the completion script of SHELL.

    \b
    bash:  eval "$(gemstone completion bash)"     in ~/.bashrc
    zsh:   eval "$(gemstone completion zsh)"      in ~/.zshrc
    fish:  gemstone completion fish | source      in ~/.config/fish/config.fish

    After gemstone run TARGET, the options that every service has are completed.
    """
    if answer is None:
        click.echo(_SCRIPTS[shell].strip())
    else:
        click.echo("\n".join(_answer_to(answer, ctx.find_root().command)))


def _answer_to(line: str, gemstone: click.Command) -> Iterator[str]:
    """Write the lines that a script reads."""
    *words, word = split_arg_string(f"{line}\0")  # \0: the cursor, also after a space in quotes
    word = word.removesuffix("\0")
    name, equals, value = word.partition("=")
    is_option = word.startswith("--") and equals == "="
    if is_option:  # --name=value is completed as --name value
        words, word = [*words, name], value
    items = ShellComplete(gemstone, {}, "gemstone", "").get_completions(words[1:], word)
    kind = next((item.type for item in items if item.type != "plain"), "words")
    yield kind
    before = name + equals if is_option else ""
    for item in items if kind == "words" else []:
        meaning = " ".join((item.help or "").split())
        yield f"{before}{item.value}\t{meaning}"
