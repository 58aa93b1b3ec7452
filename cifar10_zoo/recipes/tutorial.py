"""The tutorial's recipe: every hyperparameter has the tutorial's value.

    python -m cifar10_zoo.train --max-steps 100000

Source: ``cifar10.py`` and ``cifar10_train.py`` of the TensorFlow tutorial.

Time: 86 minutes for 100,000 steps in bf16 (2,500 images/s) on 2 CPU cores with AVX-512; 1,300 to 2,200 images/s in
fp32.

Expected top-1 accuracy of the EMA weights on the 10,000 test images, center crop:

| steps | fp32 | ``--precision bf16`` |
|---|---|---|
| 10,000 | 0.815 | 0.812 |
| 20,000 | 0.837 | 0.833 |
| 40,000 | 0.854 | 0.852 |
| 85,000 | 0.864 | 0.863 |
| 100,000 | | 0.862 |
"""

from cifar10_zoo.config import Hyperparameters

TUTORIAL = Hyperparameters()
"""The default of every hyperparameter is the tutorial's value."""
