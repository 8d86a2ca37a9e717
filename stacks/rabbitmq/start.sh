#!/bin/sh
# Starts a member in a container, with the plugins that are named. It takes its cookie only from a file that is its own
# alone, which a mounted one is not. A start reads all plugins that there are, which takes half of it: so it is given the
# libraries among them, and those that are used.
set -eu
install -m 0400 /config/erlang.cookie "$HOME/.erlang.cookie"
RABBITMQ_PLUGINS_DIR="$HOME/plugins"
export RABBITMQ_PLUGINS_DIR
mkdir -p "$RABBITMQ_PLUGINS_DIR"
server=$(readlink -f "$(command -v rabbitmq-server)")
for plugin in "${server%/sbin/*}"/plugins/*-*; do
    name=${plugin##*/}
    name=${name%-*}
    case "$name $* " in
        rabbitmq_*" $name "*) ;;
        rabbitmq_*) continue ;;
    esac
    ln -sfn "$plugin" "$RABBITMQ_PLUGINS_DIR/"
done
exec rabbitmq-server
