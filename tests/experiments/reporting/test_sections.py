def test_a_quarter_of_the_bytes_a_number_pays_for_four_times_the_images(run, section):
    found = section(
        run("dm", config={"ipc": 10}, metrics={"accuracy": 0.8}),
        run("random", config={"ipc": 10, "store": "float32"}, metrics={"accuracy": 0.7}),
        run("best", config={"ipc": 39, "store": "uint8"}, metrics={"accuracy": 0.9}),
        run("random", config={"ipc": 1, "store": "uint8"}, metrics={"accuracy": 0.4}),
    )
    assert [[arm.name for arm in rivals] for rivals in found.rivals] == [
        ["best", "dm", "random"],
        ["random"],
    ]


def test_buffers_of_equal_allowance_are_rivals_though_one_leaves_some_free(run, section):
    def arm(name, buffer, stored, **told):
        metrics = {"average_accuracy": 0.5, "buffer_bytes": stored, **told}
        return run(name, "continual", config={"buffer": buffer}, metrics=metrics)

    found = section(
        arm("replay-random", {"images": 20}, 1300),
        arm("replay-dm", {"bytes": 1300}, 1170),
        arm("replay-kmeans", {"bytes": 1300}, 2600),  # and so more than it was allowed
        arm("composition-dc", {"images": 20}, 1208, buffer_allowed=1300),
        arm("lwf", {"bytes": 1300}, 0),
    )
    assert [[arm.name for arm in rivals] for rivals in found.rivals] == [
        ["composition-dc", "replay-dm", "replay-random"],
        ["lwf"],
        ["replay-kmeans"],
    ]


def test_a_seed_that_an_arm_lacks_parts_no_rivals(run, section):
    # A seed's split decides what is uploaded: seed 1 takes twice the bytes of seed 0.
    def arm(name, seeds):
        return [
            run(name, "federated", s, metrics={"accuracy": 0.5, "bytes_up": 1000 * (s + 1)})
            for s in seeds
        ]

    whole, short = arm("one_shot-random", [0, 1]), arm("one_shot-dm", [0])
    assert [len(peers) for peers in section(*whole, *short).peers] == [2]
    assert [len(peers) for peers in section(*whole, *arm("one_shot-dm", [2])).peers] == [1, 1]


def test_bytes_within_a_fiftieth_of_the_least_are_one_budget(run, section):
    stored = {"a": 1000, "b": 1019, "c": 1021, "d": 1041}
    found = section(
        *(
            run(name, "continual", metrics={"average_accuracy": 0.5, "buffer_bytes": bytes_})
            for name, bytes_ in stored.items()
        )
    )
    names = [[arm.name for arm in rivals] for rivals in found.rivals]
    assert sorted(names) == [["a", "b"], ["c", "d"]]
