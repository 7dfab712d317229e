"""Runs are grouped by everything but the seed and named by what tells them apart."""

import numpy as np
import pytest

from experiments.reporting.arms import group, shared_tags


def test_runs_that_differ_in_the_seed_only_are_one_arm(three):
    (arm,) = group(three(accuracy=[0.5, 0.6, 0.7]))
    assert [r.seed for r in arm.runs] == [0, 1, 2]
    assert arm.label == "dm"


@pytest.mark.parametrize(
    "key",
    [
        *("output", "data_root", "threads", "device"),
        *("stores", "across", "race", "random", "whole"),
    ],
)
def test_what_cannot_alter_a_result_does_not_part_runs(key, run):
    assert len(group([run(seed=0, config={key: "a"}), run(seed=1, config={key: "b"})])) == 1


def test_where_data_lie_does_not_part_runs(run):
    configs = ({"dataset": {"name": "mnist", "data_root": root}} for root in ("here", "there"))
    (arm,) = group([run(seed=seed, config=config) for seed, config in enumerate(configs)])
    assert "data_root" not in arm.label


def test_numbers_that_are_equal_are_one_setting(run):
    alphas = ((0, 1), (1, 1.0))
    assert len(group([run(seed=i, config={"alpha": alpha}) for i, alpha in alphas])) == 1


def test_runs_that_differ_in_a_setting_are_two_arms_named_by_it(run):
    arms = group(
        [run(config={"ipc": 1}), run(config={"ipc": 10}), run("random", config={"ipc": 10})]
    )
    assert sorted(arm.label for arm in arms) == ["dm · ipc 1", "dm · ipc 10", "random · ipc 10"]


def test_arms_that_keep_images_in_two_ways_are_named_by_them_and_not_by_their_steps(run):
    upsample = {"_target_": "distill.parameterisations.upsample.Upsample", "factor": 2}
    kept = ([], 100), ([upsample], 300), ([upsample, {"_target_": "a.Hallucinators"}], 300)
    methods = [{"parameterisation": {"decoders": made}, "iterations": n} for made, n in kept]
    arms = group([run(config={"method": method}) for method in methods])
    assert sorted(arm.label for arm in arms) == [
        "dm",
        "dm · upsample",
        "dm · upsample · hallucinators",
    ]


def test_arms_whose_parts_differ_in_a_number_are_named_by_it(run):
    parts = [[{"_target_": "a.Upsample", "factor": factor}] for factor in (2, 4)]
    methods = [{"parameterisation": {"decoders": made}} for made in parts]
    arms = group([run(config={"method": method}) for method in methods])
    assert [arm.label for arm in arms] == ["dm · factor 2", "dm · factor 4"]


def test_arms_of_two_sizes_that_differ_in_more_are_named_by_it(run):
    def arms(steps):
        sized = {1: {"ipc": 1}, 10: {"ipc": 10}}
        parts = {n: {**size, "method": {"steps": steps(n)}} for n, size in sized.items()}
        return sorted(arm.label for arm in group([run(config=c) for c in parts.values()]))

    assert arms(lambda _: 300) == ["dm · ipc 1", "dm · ipc 10"]
    assert arms(lambda ipc: 50 * ipc) == ["dm · ipc 1 · steps 50", "dm · ipc 10 · steps 500"]


def test_a_size_that_is_repeated_within_a_method_is_no_difference(run):
    configs = ({"buffer": {"images": n}, "m": {"buffer": {"images": n}}} for n in (20, 50))
    arms = group([run("replay-dm", "continual", config=config) for config in configs])
    assert sorted(arm.label for arm in arms) == ["replay-dm · 20 images", "replay-dm · 50 images"]


def test_what_a_stream_tells_and_whether_it_comes_once_are_said(run, section):
    kind = {"_target_": "fedcl.streams.class_incremental.ClassIncremental"}
    told = ({"tells_tasks": False}, {"tells_tasks": True}, {"tells_tasks": False, "online": True})
    streams = [{"stream": {"online": False} | kind | of} for of in told]
    found = section(*(run("naive-dm", "continual", config=config) for config in streams))
    assert {arm.label for arm in found.arms} == {
        "naive-dm · tasks untold · offline",
        "naive-dm · tasks told · offline",
        "naive-dm · tasks untold · online",
    }
    assert shared_tags(found.arms[:1])[0] == "class incremental"
    assert len(found.rivals) == 3


def test_a_strategy_of_flowers_is_named_even_where_it_is_alone(run):
    for strategy in ({"_target_": "flwr.serverapp.strategy.FedAdam"}, "FedAdam"):
        config = {"federated": {"strategy": strategy}}
        arms = group([run("flower", "federated", config=config), run("fedavg", "federated")])
        assert sorted(arm.label for arm in arms) == ["fedavg", "flower · fedadam"]


def test_a_simulated_link_is_named_beside_none(run):
    link = {"link": {"_target_": "fedcl.federated.link.Link"}}
    arms = group([run("fedavg", "federated", config=config) for config in (link, {})])
    assert sorted(arm.label for arm in arms) == ["fedavg", "fedavg · link"]


def test_settings_that_follow_from_the_method_stay_out_of_labels(run):
    steps = {"dm": 300, "random": 0}
    arms = group([run(name, config={"method": {"steps": n}}) for name, n in steps.items()])
    assert sorted(arm.label for arm in arms) == ["dm", "random"]


def test_any_setting_that_alone_tells_two_arms_apart_is_named(run):
    arms = group([run(config={"method": {"lr": lr}}) for lr in (0.1, 1.0)])
    assert sorted(arm.label for arm in arms) == ["dm · lr 0.1", "dm · lr 1"]


def test_bounds_keep_their_plain_name(run):
    naive = run("naive", "continual")
    others = [run("replay-dm", "continual", config={"buffer": {"images": n}}) for n in (20, 50)]
    labels = sorted(arm.label for arm in group([naive, *others]))
    assert labels == ["naive", "replay-dm · 20 images", "replay-dm · 50 images"]


def test_of_two_runs_of_one_seed_the_later_counts(run):
    early = run(started="2026-11-24T04:00:00Z", metrics={"accuracy": 0.1})
    late = run(started="2026-11-24T05:00:00Z", metrics={"accuracy": 0.2})
    (arm,) = group([late, early])
    assert arm.values("accuracy") == {0: 0.2}


def test_matrices_are_averaged_with_null_as_nan(run):
    matrices = [[[0.5, None], [0.25, 1.0]], [[1.0, None], [0.75, 0.5]]]
    runs = [run(seed=i, metrics={"accuracy_matrix": m}) for i, m in enumerate(matrices)]
    (arm,) = group(runs)
    np.testing.assert_equal(arm.mean_matrix("accuracy_matrix"), [[0.75, np.nan], [0.5, 0.75]])


def test_one_shot_runs_of_several_sizes_are_arms_of_their_own(run):
    arms = group([run("one_shot-dm", "federated", config={"ipc": n}) for n in (1, 5, 10)])
    labels = [f"one_shot-dm · ipc {n}" for n in (1, 10, 5)]
    assert sorted(arm.label for arm in arms) == labels


def test_images_sent_as_jpeg_say_so_beside_those_that_are_not(run):
    jpeg = {"compression": {"images": {"_target_": "fedcl.stores.jpeg.Jpeg"}}}
    configs = {10: {"ipc": 10}, 39: {"ipc": 39, **jpeg}}
    arms = group([run("one_shot-dm", "federated", config=config) for config in configs.values()])
    labels = sorted(arm.label for arm in arms)
    assert labels == ["one_shot-dm · ipc 10", "one_shot-dm · ipc 39 · jpeg"]


def test_arms_on_different_shifts_say_so_and_are_no_rivals(run, section):
    kinds = ("Unshifted", "Noise")
    shifts = [{"shift": {"_target_": f"fedcl.shift.{kind}"}} for kind in kinds]
    names = ("fedavg", "fedprox")
    runs = [run(n, "federated", config=s) for n, s in zip(names, shifts, strict=True)]
    found = section(*runs)
    labels = [arm.label for arm in found.arms]
    assert labels == ["fedavg \N{MIDDLE DOT} unshifted", "fedprox \N{MIDDLE DOT} noise"]
    assert [len(arms) for arms in found.rivals] == [1, 1]


def test_arms_of_fewer_images_say_so_and_are_no_rivals_of_those_that_have_all(run, section):
    few = {"dataset": {"name": "digits", "train_images": 100}}
    made = section(
        run("dm", config=few, metrics={"accuracy": 0.5}),
        run("random", metrics={"accuracy": 0.4}),
    )
    assert {arm.label for arm in made.arms} == {"dm · 100 training images", "random"}
    assert len(made.rivals) == 2
    assert made.random_rival(made.arms[0]) is None


def test_shared_conditions_name_what_is_held_out_and_not_that_nothing_is(run):
    def shared(validation):
        config = {"dataset": {"name": "digits", "validation": validation}}
        return shared_tags(group([run(name, config=config) for name in ("dm", "random")]))

    assert shared(0.0) == []
    assert shared(0.1) == ["0.1 held out"]


def test_attacked_arms_and_defended_ones_say_so_beside_those_that_are_neither(run, section):
    attack = {"attack": {"_target_": "fedcl.attacks.flip.LabelFlip", "clients": 4}}
    defence = {"defence": {"_target_": "fedcl.defences.class_means.ClassMeans"}}
    made = section(
        *(
            run("fedavg", "federated", config=config, metrics={"accuracy": 0.5})
            for config in ({}, attack, attack | defence)
        )
    )
    assert {arm.label for arm in made.arms} == {
        "fedavg",
        "fedavg · label flip · 4 attacking",
        "fedavg · label flip · 4 attacking · class means",
    }
    assert sorted(len(rivals) for rivals in made.rivals) == [1, 2]


def test_runs_that_are_personalised_otherwise_are_arms_of_their_own(run):
    recipes = [{}, {"personalise": {"epochs": 1}}, {"personalise": {"epochs": 10}}]
    arms = group([run("fedavg", "federated", config=config) for config in recipes])
    assert {arm.label for arm in arms} == {"fedavg", "fedavg · epochs 1", "fedavg · epochs 10"}


def test_what_keeps_no_memory_is_a_bound_on_a_stream_only(run):
    (alone,) = group([run("fedavg", "federated")])
    (stream,) = group([run("fedavg", "federated_continual")])
    assert (alone.bound, stream.bound) == ("", "lower")


def test_networks_are_named_where_they_differ_and_shared_otherwise(run):
    def on(name, network):
        return run(name, config={"network": {"_target_": f"distill.networks.{network}"}})

    apart = group([on("dm", "MLP"), on("dm", "ConvNet")])
    assert sorted(arm.label for arm in apart) == ["dm · convnet", "dm · mlp"]
    assert shared_tags(apart) == []
    assert shared_tags(group([on("dm", "MLP"), on("random", "MLP")])) == ["mlp"]


def test_arms_whose_tags_are_equal_are_named_in_full_and_hide_no_other_arm(run):
    targets = ("a.Pixels", "b.Pixels")
    same = [run("dc", config={"method": {"_target_": target}}) for target in targets]
    others = [run("dm", config={"method": {"lr": lr}}) for lr in (0.1, 1.0)]
    assert [arm.label for arm in group([*same, *others])] == [
        "dc · method._target_ 'a.Pixels'",
        "dc · method._target_ 'b.Pixels'",
        "dm · lr 0.1",
        "dm · lr 1",
    ]


def test_settings_of_one_word_leave_no_two_labels_alike(run):
    parts = ({"a": {"epochs": 1}}, {"b": {"epochs": 1}}, {})
    labels = {arm.label for arm in group([run(config=config) for config in parts])}
    assert labels == {"dm", "dm · a.epochs 1.0", "dm · epochs 1"}


def test_a_back_end_is_no_part_of_the_method(run, section):
    def on(kind, name):
        backend = {"backend": {"_target_": f"experiments.backends.{kind}"}}
        return run(name, "federated", config=backend, metrics={"accuracy": 0.5})

    ray = section(on("ray.Ray", "one_shot-dm-ray"), on("ray.Ray", "one_shot-random-ray"))
    dm, random = ray.arms
    assert (dm.family, dm.method, dm.label) == ("one_shot", "dm", "one_shot-dm")
    assert ray.random_rival(dm) is random
    both = section(on("ray.Ray", "fedavg-ray"), on("local.Local", "fedavg"))
    assert {arm.label for arm in both.arms} == {"fedavg · ray", "fedavg · local"}


def test_small_sets_that_are_scored_otherwise_say_so_and_are_no_rivals(run, section):
    def arm(name, **evaluation):
        return run(name, config={"ipc": 1, "evaluation": evaluation}, metrics={"accuracy": 0.5})

    found = section(
        arm("dm", updates=None, batch=256, momentum=0.9),
        arm("dm", updates=600, batch=256, momentum=0.9),
        arm("frepo", updates=600, batch=500, momentum=0.0),
        arm("random", updates=600, batch=500, momentum=0.0),
    )
    assert [arm.label for arm in found.arms] == [
        "dm",
        "dm · scored after 600 updates · scored with batch 256",
        "frepo · scored after 600 updates · scored with batch 500",
        "random · scored after 600 updates · scored with batch 500",
    ]
    assert sorted(len(arms) for arms in found.rivals) == [1, 1, 2]


def test_a_server_that_trains_otherwise_is_its_method_and_not_its_judge(run):
    epochs = {"fedavg": 300, "one_shot-dm": 100}
    runs = [run(n, "federated", config={"evaluation": {"epochs": e}}) for n, e in epochs.items()]
    assert [arm.label for arm in group(runs)] == ["fedavg", "one_shot-dm"]


def test_a_word_is_an_arms_if_all_its_runs_have_it(run):
    (same,) = group([run(seed=i, metrics={"origin": "real"}) for i in range(2)])
    (both,) = group([run(seed=i, metrics={"origin": x}) for i, x in enumerate(["real", "noise"])])
    assert (same.word("origin"), both.word("origin")) == ("real", None)
