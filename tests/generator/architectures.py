"""Public architectures, written out from their papers and authors' files: what users bring as their own nets.

Each is the text of a solver with its net inside. Data are read from ``data/NAME/{train,test}_lmdb``.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["ARCHITECTURES", "PICTURES"]

# (channels, height, width) and number of labels of the stored pictures that each architecture reads.
PICTURES = {"mnist": (1, 28, 28), "pairs": (2, 28, 28), "cifar": (3, 32, 32), "imagenet": (3, 256, 256)}


def layer(name: str, kind: str, bottoms: str, top: str = "", body: str = "") -> str:
    tops = (top or name).split()
    ends = "".join(f'bottom: "{one}" ' for one in bottoms.split()) + "".join(f'top: "{one}" ' for one in tops)
    return f'layer {{ name: "{name}" type: "{kind}" {ends}{body} }}\n'


def relu(name: str, blob: str) -> str:
    return layer(name, "ReLU", blob, blob)


LEARNS = "param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 } "
XAVIER = 'weight_filler { type: "xavier" } bias_filler { type: "constant" }'


def gaussian(std: float, bias: float = 0) -> str:
    return f'weight_filler {{ type: "gaussian" std: {std} }} bias_filler {{ type: "constant" value: {bias} }}'


def conv(
    name: str, bottom: str, outputs: int, kernel: int, more: str = "", filler: str = XAVIER, head: str = LEARNS
) -> str:
    body = f"{head}convolution_param {{ num_output: {outputs} kernel_size: {kernel} {more} {filler} }}"
    return layer(name, "Convolution", bottom, name, body)


def fc(name: str, bottom: str, outputs: int, filler: str = XAVIER, head: str = LEARNS, top: str = "") -> str:
    body = f"{head}inner_product_param {{ num_output: {outputs} {filler} }}"
    return layer(name, "InnerProduct", bottom, top, body)


def pool(name: str, bottom: str, kind: str, kernel: int, stride: int, pad: int = 0) -> str:
    padded = f" pad: {pad}" if pad else ""
    return layer(
        name,
        "Pooling",
        bottom,
        name,
        f"pooling_param {{ pool: {kind} kernel_size: {kernel} stride: {stride}{padded} }}",
    )


def data(name: str, batch: int, transform: str, train: str = "", tops: str = "data label") -> str:
    made = ""
    for phase, size, own in (("TRAIN", batch, train), ("TEST", 50, "")):
        made += layer(
            tops.split()[0], "Data", "", tops,
            f"include {{ phase: {phase} }} transform_param {{ {transform} {own} }} data_param {{ "
            f'source: "data/{name}/{phase.lower()}_lmdb" batch_size: {size} backend: LMDB }}',
        )  # fmt: skip
    return made


def loss(scores: str, name: str = "loss", more: str = "") -> str:
    return layer(name, "SoftmaxWithLoss", f"{scores} label", name, more)


def accuracy(scores: str, name: str = "accuracy") -> str:
    return layer(name, "Accuracy", f"{scores} label", name, "include { phase: TEST }")


def solver(net: str, **settings: object) -> str:
    given: dict[str, object] = {"test_iter": 2, "test_interval": 500, "base_lr": 0.01, "lr_policy": '"step"'}
    given |= {"gamma": 0.1, "stepsize": 4000, "display": 20, "max_iter": 10000, "momentum": 0.9}
    given |= {"weight_decay": 0.0005, "snapshot": 5000, **settings}
    lines = "".join(f"{key}: {value}\n" for key, value in given.items() if value is not None)
    return f"{lines}net_param {{\n{net}}}\n"


def lenet() -> str:
    """LeCun et al. (1998), as in BVLC's examples/mnist."""
    net = data("mnist", 64, "scale: 0.00390625")
    net += conv("conv1", "data", 20, 5) + pool("pool1", "conv1", "MAX", 2, 2)
    net += conv("conv2", "pool1", 50, 5) + pool("pool2", "conv2", "MAX", 2, 2)
    net += fc("ip1", "pool2", 500) + relu("relu1", "ip1") + fc("ip2", "ip1", 10)
    net += accuracy("ip2") + loss("ip2")
    return solver(net, lr_policy='"inv"', gamma=0.0001, power=0.75, stepsize=None)


def cifar10_quick() -> str:
    """Krizhevsky's cuda-convnet, as in BVLC's examples/cifar10: an activation behind the pooling, no ReLU on ip1."""
    net = data("cifar", 100, "scale: 0.01 mean_value: 128")
    net += conv("conv1", "data", 32, 5, "pad: 2", gaussian(0.0001)) + pool("pool1", "conv1", "MAX", 3, 2)
    net += relu("relu1", "pool1")
    net += conv("conv2", "pool1", 32, 5, "pad: 2", gaussian(0.01)) + relu("relu2", "conv2")
    net += pool("pool2", "conv2", "AVE", 3, 2)
    net += conv("conv3", "pool2", 64, 5, "pad: 2", gaussian(0.01)) + relu("relu3", "conv3")
    net += (
        pool("pool3", "conv3", "AVE", 3, 2)
        + fc("ip1", "pool3", 64, gaussian(0.1))
        + fc("ip2", "ip1", 10, gaussian(0.1))
    )
    net += accuracy("ip2") + loss("ip2")
    return solver(net, base_lr=0.001, lr_policy='"fixed"', gamma=None, stepsize=None, max_iter=4000, weight_decay=0.004)


def lrn(name: str, bottom: str) -> str:
    return layer(name, "LRN", bottom, name, "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }")


def dropout(name: str, blob: str, ratio: float = 0.5) -> str:
    return layer(name, "Dropout", blob, blob, f"dropout_param {{ dropout_ratio: {ratio} }}")


def caffenet() -> str:
    """Krizhevsky et al. (2012), as in BVLC's models/bvlc_reference_caffenet: groups of two, LRN behind the pooling."""
    net = data("imagenet", 256, "crop_size: 227 mean_value: 104 mean_value: 117 mean_value: 123", "mirror: true")
    net += conv("conv1", "data", 96, 11, "stride: 4", gaussian(0.01)) + relu("relu1", "conv1")
    net += pool("pool1", "conv1", "MAX", 3, 2) + lrn("norm1", "pool1")
    net += conv("conv2", "norm1", 256, 5, "pad: 2 group: 2", gaussian(0.01, 1)) + relu("relu2", "conv2")
    net += pool("pool2", "conv2", "MAX", 3, 2) + lrn("norm2", "pool2")
    net += conv("conv3", "norm2", 384, 3, "pad: 1", gaussian(0.01)) + relu("relu3", "conv3")
    net += conv("conv4", "conv3", 384, 3, "pad: 1 group: 2", gaussian(0.01, 1)) + relu("relu4", "conv4")
    net += conv("conv5", "conv4", 256, 3, "pad: 1 group: 2", gaussian(0.01, 1)) + relu("relu5", "conv5")
    net += pool("pool5", "conv5", "MAX", 3, 2)
    net += fc("fc6", "pool5", 4096, gaussian(0.005, 1)) + relu("relu6", "fc6") + dropout("drop6", "fc6")
    net += fc("fc7", "fc6", 4096, gaussian(0.005, 1)) + relu("relu7", "fc7") + dropout("drop7", "fc7")
    net += fc("fc8", "fc7", 1000, gaussian(0.01)) + accuracy("fc8") + loss("fc8")
    return solver(net, stepsize=100000, max_iter=450000, test_interval=1000, snapshot=10000)


INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64), "4b": (160, 112, 224, 24, 64, 64), "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64), "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128), "5b": (384, 192, 384, 48, 128, 128),
}  # fmt: skip


def googlenet() -> str:
    """Szegedy et al. (arXiv:1409.4842), as in BVLC's models/bvlc_googlenet: Concat, two auxiliary classifiers."""

    def unit(name: str, bottom: str, outputs: int, kernel: int, more: str = "") -> str:
        return conv(name, bottom, outputs, kernel, more) + relu(f"{name}/relu", name)

    net = data("imagenet", 32, "crop_size: 224 mean_value: 104 mean_value: 117 mean_value: 123", "mirror: true")
    net += unit("conv1/7x7_s2", "data", 64, 7, "pad: 3 stride: 2") + pool("pool1/3x3_s2", "conv1/7x7_s2", "MAX", 3, 2)
    net += lrn("pool1/norm1", "pool1/3x3_s2") + unit("conv2/3x3_reduce", "pool1/norm1", 64, 1)
    net += unit("conv2/3x3", "conv2/3x3_reduce", 192, 3, "pad: 1") + lrn("conv2/norm2", "conv2/3x3")
    net += pool("pool2/3x3_s2", "conv2/norm2", "MAX", 3, 2)
    bottom = "pool2/3x3_s2"
    for name, (one, r3, c3, r5, c5, proj) in INCEPTIONS.items():
        to = f"inception_{name}"
        net += unit(f"{to}/1x1", bottom, one, 1)
        net += unit(f"{to}/3x3_reduce", bottom, r3, 1) + unit(f"{to}/3x3", f"{to}/3x3_reduce", c3, 3, "pad: 1")
        net += unit(f"{to}/5x5_reduce", bottom, r5, 1) + unit(f"{to}/5x5", f"{to}/5x5_reduce", c5, 5, "pad: 2")
        net += pool(f"{to}/pool", bottom, "MAX", 3, 1, 1) + unit(f"{to}/pool_proj", f"{to}/pool", proj, 1)
        branches = " ".join(f"{to}/{branch}" for branch in ("1x1", "3x3", "5x5", "pool_proj"))
        net += layer(f"{to}/output", "Concat", branches)
        bottom = f"{to}/output"
        if name in ("3b", "4e"):
            net += pool(f"pool{name[0]}/3x3_s2", bottom, "MAX", 3, 2)
            bottom = f"pool{name[0]}/3x3_s2"
        if name in ("4a", "4d"):
            at = "loss1" if name == "4a" else "loss2"
            net += pool(f"{at}/ave_pool", bottom, "AVE", 5, 3) + unit(f"{at}/conv", f"{at}/ave_pool", 128, 1)
            net += fc(f"{at}/fc", f"{at}/conv", 1024) + relu(f"{at}/relu_fc", f"{at}/fc")
            net += dropout(f"{at}/drop_fc", f"{at}/fc", 0.7) + fc(f"{at}/classifier", f"{at}/fc", 1000)
            net += loss(f"{at}/classifier", f"{at}/loss", "loss_weight: 0.3") + accuracy(
                f"{at}/classifier", f"{at}/top-1"
            )
    net += pool("pool5/7x7_s1", bottom, "AVE", 7, 1) + dropout("pool5/drop_7x7_s1", "pool5/7x7_s1", 0.4)
    net += fc("loss3/classifier", "pool5/7x7_s1", 1000) + loss("loss3/classifier", "loss3/loss3")
    net += accuracy("loss3/classifier", "loss3/top-1")
    return solver(net, lr_policy='"poly"', power=0.5, gamma=None, stepsize=None, max_iter=2400000, weight_decay=0.0002,
                  average_loss=40, test_interval=4000, snapshot=40000)  # fmt: skip


def squeezenet() -> str:
    """Iandola et al. (arXiv:1602.07360), v1.1: no fully connected layer, a ReLU on the scores."""
    net = data("imagenet", 32, "crop_size: 227 mean_value: 104 mean_value: 117 mean_value: 123")
    net += conv("conv1", "data", 64, 3, "stride: 2") + relu("relu_conv1", "conv1") + pool("pool1", "conv1", "MAX", 3, 2)
    bottom = "pool1"
    for number, (squeeze, expand) in enumerate(
        [(16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256)], 2
    ):
        to = f"fire{number}"
        net += conv(f"{to}/squeeze1x1", bottom, squeeze, 1) + relu(f"{to}/relu_squeeze1x1", f"{to}/squeeze1x1")
        net += conv(f"{to}/expand1x1", f"{to}/squeeze1x1", expand, 1) + relu(f"{to}/relu_expand1x1", f"{to}/expand1x1")
        net += conv(f"{to}/expand3x3", f"{to}/squeeze1x1", expand, 3, "pad: 1")
        net += relu(f"{to}/relu_expand3x3", f"{to}/expand3x3")
        net += layer(f"{to}/concat", "Concat", f"{to}/expand1x1 {to}/expand3x3")
        bottom = f"{to}/concat"
        if number in (3, 5):
            net += pool(f"pool{number}", bottom, "MAX", 3, 2)
            bottom = f"pool{number}"
    net += (
        dropout("drop9", bottom) + conv("conv10", bottom, 1000, 1, "", gaussian(0.01)) + relu("relu_conv10", "conv10")
    )
    net += layer("pool10", "Pooling", "conv10", "pool10", "pooling_param { pool: AVE global_pooling: true }")
    net += loss("pool10") + accuracy("pool10")
    return solver(
        net, base_lr=0.04, lr_policy='"poly"', power=1, gamma=None, stepsize=None, max_iter=170000, weight_decay=0.0002
    )


def bn(name: str, blob: str) -> str:
    """BatchNorm and Scale, in place, as the authors of ResNet published it."""
    return layer(f"bn{name}", "BatchNorm", blob, blob) + layer(
        f"scale{name}", "Scale", blob, blob, "scale_param { bias_term: true }"
    )


MSRA = 'bias_term: false weight_filler { type: "msra" }'
NO_BIAS = "param { lr_mult: 1 decay_mult: 1 } "


def plain(name: str, bottom: str, outputs: int, kernel: int, more: str = "") -> str:
    """A convolution without bias, with BatchNorm and Scale."""
    return conv(name, bottom, outputs, kernel, more, MSRA, NO_BIAS) + bn(f"_{name}", name)


def resnet20() -> str:
    """He et al. (arXiv:1512.03385), section 4.2, with projections where the size changes."""
    net = data("cifar", 128, "scale: 0.0078125 mean_value: 128", "mirror: true")
    net += plain("conv1", "data", 16, 3, "pad: 1") + relu("relu1", "conv1")
    bottom = "conv1"
    for stage, outputs in enumerate((16, 32, 64), 1):
        for block in (1, 2, 3):
            to, stride = f"res{stage}_{block}", 2 if stage > 1 and block == 1 else 1
            net += plain(f"{to}_a", bottom, outputs, 3, f"pad: 1 stride: {stride}") + relu(f"{to}_relu", f"{to}_a")
            net += plain(f"{to}_b", f"{to}_a", outputs, 3, "pad: 1")
            if stride == 2:
                net += plain(f"{to}_proj", bottom, outputs, 1, "stride: 2")
                bottom = f"{to}_proj"
            net += layer(to, "Eltwise", f"{bottom} {to}_b") + relu(f"{to}_out", to)
            bottom = to
    net += layer("pool", "Pooling", bottom, "pool", "pooling_param { pool: AVE global_pooling: true }")
    net += fc("fc10", "pool", 10, 'weight_filler { type: "msra" }') + accuracy("fc10") + loss("fc10")
    return solver(net, base_lr=0.1, lr_policy='"multistep"', stepsize=None, stepvalue="32000\nstepvalue: 48000",
                  max_iter=64000, weight_decay=0.0001)  # fmt: skip


def resnet50() -> str:
    """He et al. (arXiv:1512.03385), as the authors published it: bottlenecks, the stride in the first 1x1."""
    net = data("imagenet", 32, "crop_size: 224 mean_value: 104 mean_value: 117 mean_value: 123", "mirror: true")
    net += plain("conv1", "data", 64, 7, "pad: 3 stride: 2") + relu("conv1_relu", "conv1")
    net += pool("pool1", "conv1", "MAX", 3, 2)
    bottom = "pool1"
    for stage, (blocks, inner) in enumerate([(3, 64), (4, 128), (6, 256), (3, 512)], 2):
        for block in "abcdef"[:blocks]:
            to, stride = f"res{stage}{block}", 2 if stage > 2 and block == "a" else 1
            net += plain(f"{to}_branch2a", bottom, inner, 1, f"stride: {stride}") + relu(
                f"{to}_2a_relu", f"{to}_branch2a"
            )
            net += plain(f"{to}_branch2b", f"{to}_branch2a", inner, 3, "pad: 1") + relu(
                f"{to}_2b_relu", f"{to}_branch2b"
            )
            net += plain(f"{to}_branch2c", f"{to}_branch2b", 4 * inner, 1)
            if block == "a":
                net += plain(f"{to}_branch1", bottom, 4 * inner, 1, f"stride: {stride}")
                bottom = f"{to}_branch1"
            net += layer(to, "Eltwise", f"{bottom} {to}_branch2c") + relu(f"{to}_relu", to)
            bottom = to
    net += pool("pool5", bottom, "AVE", 7, 1) + fc("fc1000", "pool5", 1000) + accuracy("fc1000") + loss("fc1000")
    return solver(net, base_lr=0.1, stepsize=300000, max_iter=600000, weight_decay=0.0001)


def mobilenet() -> str:
    """Howard et al. (arXiv:1704.04861): depthwise convolutions as groups of one channel."""
    net = data(
        "imagenet", 64, "crop_size: 224 scale: 0.017 mean_value: 104 mean_value: 117 mean_value: 123", "mirror: true"
    )
    net += plain("conv1", "data", 32, 3, "pad: 1 stride: 2") + relu("relu1", "conv1")
    bottom, inputs = "conv1", 32
    plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    for number, (outputs, stride) in enumerate(plan, 2):
        deep, wide = f"conv{number}/dw", f"conv{number}/sep"
        net += plain(deep, bottom, inputs, 3, f"pad: 1 stride: {stride} group: {inputs}") + relu(
            f"relu{number}/dw", deep
        )
        net += plain(wide, deep, outputs, 1) + relu(f"relu{number}/sep", wide)
        bottom, inputs = wide, outputs
    net += layer("pool6", "Pooling", bottom, "pool6", "pooling_param { pool: AVE global_pooling: true }")
    net += conv("fc7", "pool6", 1000, 1) + accuracy("fc7") + loss("fc7")
    return solver(net, base_lr=0.1, lr_policy='"poly"', power=1, gamma=None, stepsize=None, max_iter=500000)


def siamese() -> str:
    """Hadsell et al. (2006), as in BVLC's examples/siamese: two branches that share every weight by name."""
    net = data("pairs", 64, "scale: 0.00390625", tops="pair_data sim")
    net += layer("slice_pair", "Slice", "pair_data", "data data_p", "slice_param { slice_dim: 1 slice_point: 1 }")
    for end in ("", "_p"):

        def shared(name: str) -> str:
            return f'param {{ name: "{name}_w" lr_mult: 1 }} param {{ name: "{name}_b" lr_mult: 2 }} '

        net += conv(f"conv1{end}", f"data{end}", 20, 5, head=shared("conv1")) + pool(
            f"pool1{end}", f"conv1{end}", "MAX", 2, 2
        )
        net += conv(f"conv2{end}", f"pool1{end}", 50, 5, head=shared("conv2")) + pool(
            f"pool2{end}", f"conv2{end}", "MAX", 2, 2
        )
        net += fc(f"ip1{end}", f"pool2{end}", 500, head=shared("ip1")) + relu(f"relu1{end}", f"ip1{end}")
        net += fc(f"ip2{end}", f"ip1{end}", 10, head=shared("ip2")) + fc(
            f"feat{end}", f"ip2{end}", 2, head=shared("feat")
        )
    net += layer("loss", "ContrastiveLoss", "feat feat_p sim", "loss", "contrastive_loss_param { margin: 1 }")
    return solver(net, lr_policy='"inv"', gamma=0.0001, power=0.75, stepsize=None, weight_decay=0)


def autoencoder() -> str:
    """Hinton and Salakhutdinov (2006), as in BVLC's examples/mnist: stages, a Sigmoid that is the output's own."""
    net = ""
    for phase, stage, batch in (("TRAIN", "", 100), ("TEST", "test-on-train", 100), ("TEST", "test-on-test", 100)):
        where = f'phase: {phase} stage: "{stage}"' if stage else f"phase: {phase}"
        name = "test" if stage == "test-on-test" else "train"
        net += layer(
            "data", "Data", "", "data",
            f"include {{ {where} }} transform_param {{ scale: 0.0039215684 }} data_param {{ "
            f'source: "data/mnist/{name}_lmdb" batch_size: {batch} backend: LMDB }}',
        )  # fmt: skip
    net += layer("flatdata", "Flatten", "data")
    sparse = 'weight_filler { type: "gaussian" std: 1 sparse: 15 } bias_filler { type: "constant" value: 0 }'
    head = "param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 1 decay_mult: 0 } "
    bottom = "flatdata"
    for name, outputs in [("encode1", 1000), ("encode2", 500), ("encode3", 250), ("encode4", 30),
                          ("decode4", 250), ("decode3", 500), ("decode2", 1000), ("decode1", 784)]:  # fmt: skip
        net += fc(name, bottom, outputs, sparse, head)
        if name not in ("encode4", "decode1"):
            net += layer(f"{name}neuron", "Sigmoid", name)
        bottom = f"{name}neuron" if name != "encode4" else name
    net += layer("loss", "SigmoidCrossEntropyLoss", "decode1 flatdata", "cross_entropy_loss", "loss_weight: 1")
    net += layer("decode1neuron", "Sigmoid", "decode1") + layer(
        "l2", "EuclideanLoss", "decode1neuron flatdata", "l2_error"
    )
    tests = 'test_state: { stage: "test-on-train" }\ntest_iter: 2\ntest_state: { stage: "test-on-test" }\n'
    return tests + solver(net, momentum=0.9, max_iter=65000, test_interval=10000, stepsize=10000, gamma=0.1)


def two_heads() -> str:
    """A trunk with two outputs of unlike depth, losses of two kinds: hard attributes from one picture."""
    net = data("cifar", 64, "scale: 0.0078125 mean_value: 128")
    net += (
        conv("trunk1", "data", 24, 3, "pad: 1")
        + relu("trunk1/relu", "trunk1")
        + pool("trunk1/pool", "trunk1", "MAX", 2, 2)
    )
    net += conv("trunk2", "trunk1/pool", 32, 3, "pad: 1") + layer("trunk2/relu", "ReLU", "trunk2")
    net += fc("coarse", "trunk2/relu", 10)
    net += (
        fc("fine/hidden", "trunk2/relu", 48)
        + relu("fine/relu", "fine/hidden")
        + dropout("fine/drop", "fine/hidden", 0.3)
    )
    net += fc("fine", "fine/hidden", 10)
    net += loss("coarse", "coarse/loss", "loss_weight: 0.5") + loss("fine", "fine/loss")
    net += accuracy("coarse", "coarse/accuracy") + accuracy("fine", "fine/accuracy")
    return solver(net)


_ALL = [lenet, cifar10_quick, caffenet, googlenet, squeezenet, resnet20, resnet50, mobilenet, siamese, autoencoder]
ARCHITECTURES: dict[str, Callable[[], str]] = {one.__name__: one for one in [*_ALL, two_heads]}
