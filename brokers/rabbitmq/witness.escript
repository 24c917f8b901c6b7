#!/usr/bin/env escript
%%! -hidden -sname undefined@localhost -kernel inet_dist_use_interface {127,0,0,1}
%% The exact witness: what is in the queues at this moment, asked of the broker from the inside.
%%
%%     escript witness.escript NODE [NODE ...]
%%
%% A hidden Erlang node reads one command a line and answers each with one line of JSON, {"ok": ...} or {"error": "..."}.
%% It asks the first of the nodes that answers. Names are in base64: they may hold anything. The virtual host is "/".
%%
%%     count NAME            [{"type", "ready", "unacked"}], or [] where there is no such queue
%%     held NAME             how many messages the channels of its consumers hold unacknowledged: a queue hears of an
%%                           acknowledgement after its channel
%%     queues                all names
%%     delete NAME           whether there was one
%%     exchanges             all names but the broker's own
%%     delete-exchange NAME  whether there was one
%%     connections           [{"name", "protocol", "user", "node", "port", "properties"}]
%%     close-connections     how many
%%     leader NAME           [the node that leads a queue], or []
%%     save                  have every node write down which quorum queues it has: RabbitMQ 3.10 does so by itself half a
%%                           second after the last was declared, and one killed before comes back without the queue
%%
%% rabbitmqctl takes a second a call, and the counts it shows of a quorum queue are up to five seconds old. Here a count is
%% a command to the queue itself: what the queue had received before is applied before.
-mode(compile).

-define(VHOST, <<"/">>).
-define(PATIENCE, 5000).
-define(WAIT, 50).

main(Nodes) ->
    ok = io:setopts(standard_io, [binary, {encoding, latin1}]),
    loop([list_to_atom(Node) || Node <- Nodes]).

loop(Nodes) ->
    case io:get_line(standard_io, "") of
        Line when is_binary(Line) ->
            ok = io:put_chars([rabbit_json:encode(answer(Nodes, words(Line))), $\n]),
            loop(Nodes);
        _ -> ok
    end.

words(Line) -> string:lexemes(string:trim(Line), " ").

answer(Nodes, Words) ->
    try #{ok => do(Nodes, Words)}
    catch _:Reason -> #{error => text("~0p", [Reason])}
    end.

do(Nodes, [<<"count">>, Name]) ->
    on_queue(Nodes, Name, fun(Queue) -> [count(Nodes, amqqueue:get_type(Queue), Queue)] end, []);
do(Nodes, [<<"held">>, Name]) ->
    on_queue(Nodes, Name, fun(Queue) -> lists:sum([held(Nodes, Channel) || Channel <- channels(Nodes, Queue)]) end, 0);
do(Nodes, [<<"leader">>, Name]) ->
    on_queue(Nodes, Name, fun(Queue) -> [amqqueue:qnode(Queue)] end, []);
do(Nodes, [<<"queues">>]) ->
    [name(Resource) || Resource <- call(Nodes, rabbit_amqqueue, list_names, [?VHOST])];
do(Nodes, [<<"delete">>, Name]) ->
    on_queue(Nodes, Name, fun(Queue) ->
        {ok, _} = call(Nodes, rabbit_amqqueue, delete, [Queue, false, false, <<"witness">>]),
        true
    end, false);
do(Nodes, [<<"exchanges">>]) ->
    [name(Resource) || Resource <- call(Nodes, rabbit_exchange, list_names, []), foreign(Resource)];
do(Nodes, [<<"delete-exchange">>, Name]) ->
    ok =:= call(Nodes, rabbit_exchange, delete, [resource(exchange, Name), false, <<"witness">>]);
do(Nodes, [<<"connections">>]) ->
    [connection(Facts) || {_, Facts} <- connections(Nodes)];
do(Nodes, [<<"close-connections">>]) ->
    length([close(Nodes, Process, Facts) || {Process, Facts} <- connections(Nodes)]);
do(Nodes, [<<"save">>]) ->
    [ok = call([Node], dets, sync, [ra_directory_reverse]) || Node <- call(Nodes, rabbit_nodes, all_running, [])],
    true;
do(_, Words) ->
    error({unknown_command, Words}).

on_queue(Nodes, Name, Act, Otherwise) ->
    case call(Nodes, rabbit_amqqueue, lookup, [resource(queue, Name)]) of
        {ok, Queue} -> Act(Queue);
        {error, not_found} -> Otherwise
    end.

%% A quorum queue is a log: garbage_collection is an entry that changes nothing, and is applied after all before it.
count(Nodes, rabbit_quorum_queue, Queue) ->
    Entry = rabbit_fifo:make_garbage_collection(),
    Leader = command(Nodes, members(Queue), Entry, ?PATIENCE div ?WAIT),
    {ok, {_, Facts}, _} = call(Nodes, ra, leader_query, [Leader, fun rabbit_fifo:overview/1, ?PATIENCE]),
    #{num_messages := All, num_checked_out := Unacked} = Facts,
    #{type => quorum, ready => All - Unacked, unacked => Unacked};
count(Nodes, rabbit_classic_queue, Queue) ->
    Items = [messages_ready, messages_unacknowledged],
    [{_, Ready}, {_, Unacked}] = call(Nodes, rabbit_amqqueue, info, [Queue, Items]),
    #{type => classic, ready => Ready, unacked => Unacked}.

%% A queue is known by its name before its processes have started: when it is declared, and when its node starts.
command(Nodes, Members, Entry, Tries) ->
    case call(Nodes, ra, process_command, [Members, Entry, ?PATIENCE]) of
        {ok, _, Leader} -> Leader;
        {error, {no_more_servers_to_try, [{error, noproc} | _]}} when Tries > 0 ->
            timer:sleep(?WAIT),
            command(Nodes, Members, Entry, Tries - 1)
    end.

channels(Nodes, Queue) -> lists:usort([element(1, Consumer) || Consumer <- call(Nodes, rabbit_amqqueue, consumers, [Queue])]).

held(Nodes, Channel) ->
    try call(Nodes, rabbit_channel, info, [Channel, [messages_unacknowledged]]) of
        [{messages_unacknowledged, Held}] -> Held
    catch _:_ -> 0
    end.

%% The last known leader first; any other knows the present one.
members(Queue) ->
    {Name, Leader} = amqqueue:get_pid(Queue),
    #{nodes := Nodes} = amqqueue:get_type_state(Queue),
    [{Name, Node} || Node <- [Leader | lists:delete(Leader, Nodes)]].

%% The broker's own metrics know the connections of every protocol, each node its own.
connections(Nodes) ->
    Running = call(Nodes, rabbit_nodes, all_running, []),
    lists:append([call([Node], ets, tab2list, [connection_created]) || Node <- Running]).

connection(Facts) ->
    Fact = fun(Key) -> proplists:get_value(Key, Facts, null) end,
    Texts = [{Key, Value} || {client_properties, Properties} <- Facts, {Key, longstr, Value} <- Properties],
    #{
        name => Fact(name),
        protocol => protocol(Fact(protocol)),
        user => Fact(user),
        node => Fact(node),
        port => Fact(port),
        properties => maps:from_list(Texts)
    }.

protocol({Name, Version}) -> text("~s ~s", [Name, Version]);
protocol(Version) when is_tuple(Version) -> <<"AMQP">>.

close(Nodes, Process, Facts) ->
    case proplists:get_value(protocol, Facts) of
        {'STOMP', _} -> call(Nodes, rabbit_stomp_reader, close_connection, [Process, "closed by the witness"]);
        _ -> call(Nodes, rabbit_networking, close_connection, [Process, "closed by the witness"])
    end.

resource(Kind, Name) -> rabbit_misc:r(?VHOST, Kind, base64:decode(Name)).

name(Resource) -> base64:encode(element(4, Resource)).

%% Exchanges of the virtual host that the broker did not make by itself.
foreign(Resource) ->
    Name = element(4, Resource),
    element(2, Resource) =:= ?VHOST andalso Name =/= <<>> andalso string:prefix(Name, <<"amq.">>) =:= nomatch.

%% Call a function of the broker, on the first node that answers. Connecting gives this node its name.
call([Node | Others], Module, Function, Arguments) ->
    _ = net_kernel:connect_node(Node),
    case rpc:call(Node, Module, Function, Arguments, 2 * ?PATIENCE) of
        {badrpc, Reason} when Reason =:= nodedown; Reason =:= timeout ->
            case Others of
                [] -> error({Node, Reason});
                _ -> call(Others, Module, Function, Arguments)
            end;
        {badrpc, Reason} -> error({Node, Reason});
        Result -> Result
    end.

text(Format, Arguments) -> unicode:characters_to_binary(io_lib:format(Format, Arguments)).
