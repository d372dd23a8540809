#!/usr/bin/env bash
# torchrl 0.14.1: SACLoss throws away the weights of the critic that it is given.
#
# From one critic it makes two, and draws the weights of both anew, each tensor uniformly between
# its smallest and its largest weight. A critic that was trained before is lost, and one that was
# initialised orthogonally becomes neither orthogonal nor of the same size: its hidden weights are
# more than twice as large. (Weights as torch.nn.Linear draws them are uniform anyway.) Given as a
# list of two modules, critics keep their weights. The reference of the loss speaks of duplication;
# only a note on an inner method says that weights are drawn again.
#
# Output:
#   one critic: weights kept False, size times more than 2; list of two: weights kept True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torchrl==0.14.1 tensordict==0.14.3 torch==2.13.0 \
    numpy==2.4.6
cat > "$folder/look.py" <<'PY'
import torch
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.data import Bounded
from torchrl.modules import NormalParamExtractor, ProbabilisticActor, TanhNormal, ValueOperator
from torchrl.objectives import SACLoss

torch.manual_seed(0)


class Critic(nn.Module):
    """Two layers, with orthogonal weights."""

    def __init__(self):
        super().__init__()
        self.hidden, self.out = nn.Linear(256, 256), nn.Linear(256, 1)
        nn.init.orthogonal_(self.hidden.weight)

    def forward(self, observation, action):
        joined = torch.cat([observation, action], -1)
        return self.out(torch.relu(self.hidden(joined)))


def compare(critics):
    """What the first critic of a SACLoss has in common with the first one given."""
    given = critics[0] if isinstance(critics, list) else critics
    before = given.module.hidden.weight.detach().clone()
    net = nn.Sequential(nn.Linear(250, 12), NormalParamExtractor())
    actor = ProbabilisticActor(
        TensorDictModule(net, in_keys=["observation"], out_keys=["loc", "scale"]),
        in_keys=["loc", "scale"], distribution_class=TanhNormal,
        spec=Bounded(-torch.ones(6), torch.ones(6), (6,)),
    )
    loss = SACLoss(actor, critics)
    after = loss.qvalue_network_params["module", "hidden", "weight"][0]
    if torch.equal(before, after):
        return "weights kept True"
    factor = float(after.std() / before.std())
    return f"weights kept False, size times {'more than 2' if factor > 2 else factor}"


def operator():
    return ValueOperator(Critic(), in_keys=["observation", "action"])


print(f"one critic: {compare(operator())}; list of two: {compare([operator(), operator()])}")
PY
seen=$("$folder/venv/bin/python" "$folder/look.py" 2>/dev/null | tail -1)
echo "$seen"
[ "$seen" = "one critic: weights kept False, size times more than 2; list of two: weights kept\
 True" ]
