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
