#pragma once

/// \file
/// Everything that trains a model, beside all that runs one: adapters, gradients, optimizers, the trainer.

#include <mistral/io/adapter_folder.hpp>
#include <mistral/model.hpp>
#include <mistral/nn/adapter.hpp>
#include <mistral/nn/lora.hpp>
#include <mistral/train/optimizer.hpp>
#include <mistral/train/trainer.hpp>
