"""The layouts of well-known nets, written out layer by layer: files that are right and that lint must leave alone."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["FORK_LAYOUTS", "LAYOUTS"]

_INPUT = 'layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: [1, 3, {0}, {0}] }} }} }}\n'
_OLD_INPUT = 'input: "data"\ninput_dim: 1 input_dim: 3 input_dim: {0} input_dim: {0}\n'
_XAVIER = 'weight_filler { type: "xavier" }'


def layer(name: str, kind: str, bottom: str, top: str, rest: str = "") -> str:
    """One layer; several bottoms or tops are parted by blanks."""
    ends = [f'bottom: "{one}"' for one in bottom.split()] + [f'top: "{one}"' for one in top.split()]
    return f'layer {{ name: "{name}" type: "{kind}" {" ".join(ends)} {rest} }}\n'


def conv(name: str, bottom: str, size: int, kernel: int, rest: str = "", param: str = "") -> str:
    """A convolution that keeps the size of its input at stride 1."""
    inner = f"num_output: {size} kernel_size: {kernel} pad: {kernel // 2} {rest}"
    return layer(name, "Convolution", bottom, name, f"{param} convolution_param {{ {inner} }}")


def normalized(name: str, stats: str, relu: bool = True, param: str = "") -> str:
    """BatchNorm, Scale and ReLU in place behind a convolution."""
    text = layer(f"bn_{name}", "BatchNorm", name, name, f"{param} batch_norm_param {{ {stats} }}")
    text += layer(f"scale_{name}", "Scale", name, name, "scale_param { bias_term: true }")
    return text + (layer(f"{name}_relu", "ReLU", name, name) if relu else "")


def data(batch: int, source: str, crop: int, phase: str) -> str:
    """A layer of LMDB images."""
    mirror = "mirror: true" if phase == "TRAIN" else "mirror: false"
    transform = f"crop_size: {crop} {mirror} mean_value: 104 mean_value: 117 mean_value: 123"
    inner = f'source: "{source}" batch_size: {batch} backend: LMDB'
    more = f"include {{ phase: {phase} }} transform_param {{ {transform} }} data_param {{ {inner} }}"
    return layer("data", "Data", "", "data label", more)


def ends(scores: str) -> str:
    """Loss and accuracies of a classifier."""
    text = layer("loss", "SoftmaxWithLoss", f"{scores} label", "loss")
    for k in (1, 5):
        more = f"accuracy_param {{ top_k: {k} }} include {{ phase: TEST }}"
        text += layer(f"top{k}", "Accuracy", f"{scores} label", f"top{k}", more)
    return text


def _resnet(stats: str, blocks: tuple[int, ...], filler: str = "") -> str:
    text = conv("conv1", "data", 64, 7, f"stride: 2 bias_term: false {filler}") + normalized("conv1", stats)
    text += layer("pool1", "Pooling", "conv1", "pool1", "pooling_param { pool: MAX kernel_size: 3 stride: 2 }")
    bottom = "pool1"
    for stage, count in enumerate(blocks, 2):
        for block in range(count):
            name, width = f"res{stage}{chr(97 + block)}", 2 ** (stage + 4)
            stride = 2 if block == 0 and stage > 2 else 1
            strided = f"stride: {stride} bias_term: false {filler}"
            shortcut = bottom
            if block == 0:
                shortcut = f"{name}_branch1"
                text += conv(shortcut, bottom, 4 * width, 1, strided) + normalized(shortcut, stats, relu=False)
            parts = [f"{name}_branch2{part}" for part in "abc"]
            text += conv(parts[0], bottom, width, 1, strided) + normalized(parts[0], stats)
            text += conv(parts[1], parts[0], width, 3, f"bias_term: false {filler}") + normalized(parts[1], stats)
            text += conv(parts[2], parts[1], 4 * width, 1, f"bias_term: false {filler}")
            text += normalized(parts[2], stats, relu=False)
            text += layer(name, "Eltwise", f"{shortcut} {parts[2]}", name) + layer(f"{name}_relu", "ReLU", name, name)
            bottom = name
    text += layer("pool5", "Pooling", bottom, "pool5", "pooling_param { pool: AVE global_pooling: true }")
    inner = f"num_output: 1000 {_XAVIER if filler else ''}"
    return text + layer("fc1000", "InnerProduct", "pool5", "fc1000", f"inner_product_param {{ {inner} }}")


def resnet_deploy(blocks: tuple[int, ...] = (3, 4, 6, 3)) -> str:
    """The published deploy nets of ResNet: ``input_dim``, ``use_global_stats`` without a phase."""
    prob = layer("prob", "Softmax", "fc1000", "prob")
    return _OLD_INPUT.format(224) + _resnet("use_global_stats: true", blocks) + prob


def resnet_train() -> str:
    """ResNet-50 as it is trained."""
    sources = data(32, "ilsvrc12/train_lmdb", 224, "TRAIN") + data(25, "ilsvrc12/val_lmdb", 224, "TEST")
    return sources + _resnet("", (3, 4, 6, 3), 'weight_filler { type: "msra" }') + ends("fc1000")


def mobilenet_deploy() -> str:
    """MobileNet: depthwise by ``group``, BatchNorms with rates of 0."""
    still = "param { lr_mult: 0 decay_mult: 0 }" * 3
    text, bottom = _OLD_INPUT.format(224), "data"
    for number, (width, stride) in enumerate(((64, 1), (128, 2), (128, 1), (256, 2), (512, 2), (1024, 2)), 1):
        before = 32 if number == 1 else int((64, 128, 128, 256, 512)[number - 2])
        if number == 1:
            text += conv("conv1", bottom, 32, 3, "bias_term: false stride: 2")
            text += normalized("conv1", "use_global_stats: true eps: 1e-5", param=still)
            bottom = "conv1"
        for name, size, more in (
            (f"conv{number}/dw", before, f"bias_term: false group: {before} stride: {stride} engine: CAFFE"),
            (f"conv{number}/sep", width, "bias_term: false"),
        ):
            text += conv(name, bottom, size, 3 if "dw" in name else 1, more)
            text += normalized(name, "use_global_stats: true eps: 1e-5", param=still)
            bottom = name
    text += layer("pool6", "Pooling", bottom, "pool6", "pooling_param { pool: AVE global_pooling: true }")
    return text + conv("fc7", "pool6", 1000, 1) + layer("prob", "Softmax", "fc7", "prob")


def squeezenet() -> str:
    """SqueezeNet's train_val: fire modules, a last convolution, global pooling before the loss."""
    text = data(32, "ilsvrc12/train_lmdb", 227, "TRAIN") + data(25, "ilsvrc12/val_lmdb", 227, "TEST")
    text += conv("conv1", "data", 64, 3, f"stride: 2 {_XAVIER}") + layer("relu1", "ReLU", "conv1", "conv1")
    text += layer("pool1", "Pooling", "conv1", "pool1", "pooling_param { pool: MAX kernel_size: 3 stride: 2 }")
    bottom = "pool1"
    for number in range(2, 6):
        fire = f"fire{number}"
        for name, source, size, kernel in (
            (f"{fire}/squeeze", bottom, 16, 1),
            (f"{fire}/expand1x1", f"{fire}/squeeze", 64, 1),
            (f"{fire}/expand3x3", f"{fire}/squeeze", 64, 3),
        ):
            text += conv(name, source, size, kernel, _XAVIER) + layer(f"{name}/relu", "ReLU", name, name)
        bottom = f"{fire}/concat"
        text += layer(bottom, "Concat", f"{fire}/expand1x1 {fire}/expand3x3", bottom)
    text += layer("drop9", "Dropout", bottom, bottom, "dropout_param { dropout_ratio: 0.5 }")
    text += conv("conv10", bottom, 1000, 1, 'weight_filler { type: "gaussian" std: 0.01 }')
    text += layer("relu10", "ReLU", "conv10", "conv10")
    text += layer("pool10", "Pooling", "conv10", "pool10", "pooling_param { pool: AVE global_pooling: true }")
    return text + ends("pool10")


def densenet_deploy() -> str:
    """DenseNet: BatchNorm, Scale, ReLU before each convolution, outputs joined to all that came before."""
    text, bottom = _INPUT.format(224) + conv("conv1", "data", 64, 7, "bias_term: false stride: 2"), "conv1"
    for number in range(1, 7):
        name = f"conv2_{number}/x1"
        text += layer(f"{name}/bn", "BatchNorm", bottom, f"{name}/bn", "batch_norm_param { eps: 1e-5 }")
        text += layer(f"{name}/scale", "Scale", f"{name}/bn", f"{name}/bn", "scale_param { bias_term: true }")
        text += layer(f"{name}/relu", "ReLU", f"{name}/bn", f"{name}/bn")
        text += conv(name, f"{name}/bn", 32, 3, "bias_term: false")
        text += layer(f"concat_2_{number}", "Concat", f"{bottom} {name}", f"concat_2_{number}")
        bottom = f"concat_2_{number}"
    text += layer("pool5", "Pooling", bottom, "pool5", "pooling_param { pool: AVE global_pooling: true }")
    return text + conv("fc6", "pool5", 1000, 1)


def nin() -> str:
    """Network in Network on CIFAR-10: its last ReLU lies before the average."""
    text = data(128, "cifar-train-leveldb_lmdb", 32, "TRAIN") + data(100, "cifar-test_lmdb", 32, "TEST")
    bottom = "data"
    gaussian = 'weight_filler { type: "gaussian" std: 0.05 } bias_filler { type: "constant" }'
    for block, (wide, kernel, last) in enumerate(((192, 5, 96), (192, 5, 192), (192, 3, 10)), 1):
        for name, size, k in ((f"conv{block}", wide, kernel), (f"cccp{block}a", wide, 1), (f"cccp{block}b", last, 1)):
            text += conv(name, bottom, size, k, gaussian) + layer(f"relu_{name}", "ReLU", name, name)
            bottom = name
        more = "kernel_size: 3 stride: 2" if block < 3 else "global_pooling: true"
        text += layer(f"pool{block}", "Pooling", bottom, f"pool{block}", f"pooling_param {{ pool: AVE {more} }}")
        bottom = f"pool{block}"
    return text + ends(bottom)


def fcn_train() -> str:
    """FCN: a Python data layer, no fillers (a program fills the weights), a Deconvolution that is held still."""
    module = 'python_param { module: "voc_layers" layer: "SegDataLayer" param_str: "{}" }'
    text = layer("data", "Python", "", "data label", module)
    text += layer(
        "conv1", "Convolution", "data", "conv1", "convolution_param { num_output: 64 kernel_size: 3 pad: 100 }"
    )
    text += layer("relu1", "ReLU", "conv1", "conv1")
    text += layer("pool1", "Pooling", "conv1", "pool1", "pooling_param { pool: MAX kernel_size: 2 stride: 2 }")
    text += layer("score_fr", "Convolution", "pool1", "score_fr", "convolution_param { num_output: 21 kernel_size: 1 }")
    inner = "convolution_param { num_output: 21 bias_term: false kernel_size: 4 stride: 2 }"
    text += layer("upscore", "Deconvolution", "score_fr", "upscore", f"param {{ lr_mult: 0 }} {inner}")
    text += layer("score", "Crop", "upscore data", "score", "crop_param { axis: 2 offset: 19 }")
    return text + layer("loss", "SoftmaxWithLoss", "score label", "loss", "loss_param { ignore_label: 255 }")


def faster_rcnn_train() -> str:
    """Faster R-CNN: Python layers between stock ones, frozen BatchNorms, two losses of each kind."""
    python = 'python_param { module: "{}" layer: "{}" }'
    text = layer(
        "input-data", "Python", "", "data im_info gt_boxes", python.replace("{}", "roi", 1).replace("{}", "Data")
    )
    frozen = "param { lr_mult: 0 } param { lr_mult: 0 }"
    text += conv("conv1", "data", 64, 3, "", frozen)
    text += layer("bn1", "BatchNorm", "conv1", "conv1", "batch_norm_param { use_global_stats: true }")
    text += layer("scale1", "Scale", "conv1", "conv1", f"{frozen} scale_param {{ bias_term: true }}")
    text += layer("relu1", "ReLU", "conv1", "conv1")
    text += conv("rpn_cls_score", "conv1", 18, 1, 'weight_filler { type: "gaussian" std: 0.01 }')
    text += conv("rpn_bbox_pred", "conv1", 36, 1, 'weight_filler { type: "gaussian" std: 0.01 }')
    shape = "reshape_param { shape { dim: 0 dim: 2 dim: -1 dim: 0 } }"
    text += layer("rpn_reshape", "Reshape", "rpn_cls_score", "rpn_cls_score_reshape", shape)
    anchors = python.replace("{}", "rpn", 1).replace("{}", "Anchors")
    tops = "rpn_labels rpn_bbox_targets"
    text += layer("rpn-data", "Python", "rpn_cls_score gt_boxes im_info data", tops, anchors)
    text += layer(
        "rpn_loss_cls", "SoftmaxWithLoss", "rpn_cls_score_reshape rpn_labels", "rpn_cls_loss", "loss_weight: 1"
    )
    return text + layer(
        "rpn_loss_bbox", "EuclideanLoss", "rpn_bbox_pred rpn_bbox_targets", "rpn_loss_bbox", "loss_weight: 1"
    )


def googlenet_deploy() -> str:
    """Two ends that nobody reads: a net for inference may give out more than one thing."""
    text = _INPUT.format(64) + conv("conv1", "data", 8, 3) + layer("relu1", "ReLU", "conv1", "conv1")
    boxes = layer("boxes", "InnerProduct", "conv1", "boxes", "inner_product_param { num_output: 4 }")
    return text + boxes + conv("score", "conv1", 3, 1) + layer("prob", "Softmax", "score", "prob")


def _ssd_data(phase: str) -> str:
    """SSD's layer of annotated images, with fields of its fork in ``transform_param`` and beside it."""
    means = "mean_value: 104 mean_value: 117 mean_value: 123"
    resize = "resize_param { prob: 1 resize_mode: WARP height: 300 width: 300 interp_mode: LINEAR }"
    train = "mirror: true distort_param { brightness_prob: 0.5 } emit_constraint { emit_type: CENTER }"
    transform = f"transform_param {{ {means} {resize} {train if phase == 'TRAIN' else ''} }}"
    source = f'source: "VOC0712_{phase.lower()}_lmdb" batch_size: {32 if phase == "TRAIN" else 8} backend: LMDB'
    sampler = "batch_sampler { max_sample: 1 max_trials: 1 }" if phase == "TRAIN" else ""
    boxes = f'annotated_data_param {{ {sampler} label_map_file: "labelmap_voc.prototxt" }}'
    more = f"include {{ phase: {phase} }} {transform} data_param {{ {source} }} {boxes}"
    return layer("data", "AnnotatedData", "", "data label", more)


def _ssd(start: str) -> str:
    """SSD300's shape on VGG, shortened: conv4_3 through Normalize and fc7 dilated, with boxes from both."""
    rates = "param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }"
    filler = f'{_XAVIER} bias_filler {{ type: "constant" value: 0 }}'
    text, bottom = start, "data"
    for block, (width, count) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3)), 1):
        for number in range(1, count + 1):
            name = f"conv{block}_{number}"
            text += conv(name, bottom, width, 3, filler, rates) + layer(f"relu{block}_{number}", "ReLU", name, name)
            bottom = name
        pool = "pooling_param { pool: MAX kernel_size: 2 stride: 2 }"
        text += layer(f"pool{block}", "Pooling", bottom, f"pool{block}", pool)
        bottom = f"pool{block}"
    inner = f"num_output: 1024 kernel_size: 3 pad: 6 dilation: 6 {filler}"
    text += layer("fc6", "Convolution", bottom, "fc6", f"{rates} convolution_param {{ {inner} }}")
    text += layer("relu6", "ReLU", "fc6", "fc6")
    text += conv("fc7", "fc6", 1024, 1, filler, rates) + layer("relu7", "ReLU", "fc7", "fc7")
    scale = 'norm_param { across_spatial: false scale_filler { type: "constant" value: 20 } channel_shared: false }'
    text += layer("conv4_3_norm", "Normalize", "conv4_3", "conv4_3_norm", scale)
    heads = (("conv4_3_norm", 4, "min_size: 30 max_size: 60"), ("fc7", 6, "min_size: 60 max_size: 111"))
    for name, boxes, sizes in heads:
        for part, size in (("loc", 4 * boxes), ("conf", 21 * boxes)):
            head = f"{name}_mbox_{part}"
            text += conv(head, name, size, 3, filler, rates)
            text += layer(f"{head}_perm", "Permute", head, f"{head}_perm", "permute_param { order: [0, 2, 3, 1] }")
            text += layer(f"{head}_flat", "Flatten", f"{head}_perm", f"{head}_flat", "flatten_param { axis: 1 }")
        prior = (
            f"prior_box_param {{ {sizes} aspect_ratio: 2 flip: true clip: false variance: 0.1 step: 8 offset: 0.5 }}"
        )
        text += layer(f"{name}_mbox_priorbox", "PriorBox", f"{name} data", f"{name}_mbox_priorbox", prior)
    for part, axis in (("loc_flat", 1), ("conf_flat", 1), ("priorbox", 2)):
        bottoms = " ".join(f"{name}_mbox_{part}" for name, *_ in heads)
        top = f"mbox_{part.removesuffix('_flat')}"
        text += layer(top, "Concat", bottoms, top, f"concat_param {{ axis: {axis} }}")
    return text


def _ssd_detections(more: str = "") -> str:
    """From scores to boxes: softmax over 21 classes, non-maximum suppression."""
    shape = "reshape_param { shape { dim: 0 dim: -1 dim: 21 } }"
    text = layer("mbox_conf_reshape", "Reshape", "mbox_conf", "mbox_conf_reshape", f"{shape} {more}")
    softmax = f"softmax_param {{ axis: 2 }} {more}"
    text += layer("mbox_conf_softmax", "Softmax", "mbox_conf_reshape", "mbox_conf_softmax", softmax)
    flat = f"flatten_param {{ axis: 1 }} {more}"
    text += layer("mbox_conf_flatten", "Flatten", "mbox_conf_softmax", "mbox_conf_flatten", flat)
    inner = "num_classes: 21 background_label_id: 0 nms_param { nms_threshold: 0.45 top_k: 400 } keep_top_k: 200"
    bottoms = "mbox_loc mbox_conf_flatten mbox_priorbox"
    return text + layer(
        "detection_out", "DetectionOutput", bottoms, "detection_out", f"detection_output_param {{ {inner} }} {more}"
    )


def ssd_train() -> str:
    """SSD300 as it is trained, with its test in the same file."""
    test = "include { phase: TEST }"
    loss = "multibox_loss_param { loc_loss_type: SMOOTH_L1 conf_loss_type: SOFTMAX num_classes: 21 neg_pos_ratio: 3 }"
    down = "propagate_down: true propagate_down: true propagate_down: false propagate_down: false"
    more = f"include {{ phase: TRAIN }} {down} loss_param {{ normalization: VALID }} {loss}"
    text = _ssd(_ssd_data("TRAIN") + _ssd_data("TEST"))
    text += layer("mbox_loss", "MultiBoxLoss", "mbox_loc mbox_conf mbox_priorbox label", "mbox_loss", more)
    sizes = "detection_evaluate_param { num_classes: 21 background_label_id: 0 overlap_threshold: 0.5 }"
    evaluated = layer("detection_eval", "DetectionEvaluate", "detection_out label", "detection_eval", f"{test} {sizes}")
    return text + _ssd_detections(test) + evaluated


def ssd_deploy() -> str:
    """SSD300's deploy net."""
    return _ssd(_INPUT.format(300)) + _ssd_detections()


LAYOUTS: dict[str, Callable[[], str]] = {
    "ResNet-50-deploy": resnet_deploy,
    "ResNet-101-deploy": lambda: resnet_deploy((3, 4, 23, 3)),
    "ResNet-50-train_val": resnet_train,
    "mobilenet_deploy": mobilenet_deploy,
    "squeezenet_train_val": squeezenet,
    "densenet-121-deploy": densenet_deploy,
    "nin_train_val": nin,
    "fcn_train": fcn_train,
    "faster_rcnn_train": faster_rcnn_train,
    "two_outputs_deploy": googlenet_deploy,
}

_SSD = ("Normalize", "Permute", "PriorBox", "DetectionOutput")
# Right in the fork that they are of: what writes each, and the types that BVLC Caffe does not have.
FORK_LAYOUTS: dict[str, tuple[Callable[[], str], tuple[str, ...]]] = {
    "ssd300_train_val": (ssd_train, ("AnnotatedData", *_SSD, "MultiBoxLoss", "DetectionEvaluate")),
    "ssd300_deploy": (ssd_deploy, _SSD),
}
